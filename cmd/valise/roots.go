package main

// The managed plugin has no certificates of a system. Mozilla's are compiled in, and count
// where there are no others.
import _ "golang.org/x/crypto/x509roots/fallback"
