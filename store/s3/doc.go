// Package s3 reaches a profile's prefix of a bucket on AWS or on any store that
// speaks S3: the store.Bucket that valise mounts from.
//
// Invariants:
//
//   - Only GetObject, PutObject, DeleteObject, ListObjectsV2 and, to find the region
//     of an AWS bucket, GetBucketLocation are sent, so these are all the rights that
//     credentials need. There is no multipart upload. A Role is got by AssumeRole, and
//     may do this below the Location's prefix alone, whatever the credentials that
//     assume it may.
//   - Every request is signed with Signature Version 4; no secret is in a log or an
//     error, and neither is a customer's key, which goes over TLS alone.
//   - Credentials that end are renewed before they do, and once more for a request that
//     the store refuses because they have ended.
//   - What a call returns was announced by the store in full and arrived in full: an
//     answer cut short is asked for again, one that is not the range asked for is
//     refused.
//   - A call ends: each attempt ends when nothing moved for a while, and the attempts
//     are counted. The client does not limit its own rate.
//
// A Bucket is safe for concurrent use, and has connections of its own, 64 idle ones at
// most. It does not cache or compress; what is encrypted, the store encrypts. It
// notices a store that ignores a customer's key, but not one that ignores If-None-Match.
package s3
