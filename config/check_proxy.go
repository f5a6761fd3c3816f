package config

import (
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"valise/identity"
	"valise/notice"
)

// address checks unix:///path, tcp://host:port or plain host:port.
func (c *checker) address(key, v string) string {
	scheme, rest, ok := strings.Cut(v, "://")
	if !ok {
		scheme, rest = "tcp", v
	}
	switch scheme {
	case "unix":
		if !strings.HasPrefix(rest, "/") {
			c.fault(key, "address %q: a unix socket's path is absolute, as in unix:///run/valise/docker.sock", v)
		}
	case "tcp":
		if _, port, err := net.SplitHostPort(rest); err != nil || port == "" {
			c.fault(key, "address %q is neither unix:///path nor tcp://host:port", v)
		}
	default:
		c.fault(key, "address %q: the scheme %q is neither unix nor tcp", v, scheme)
	}
	return scheme + "://" + rest
}

func (c *checker) proxy(t proxyTable) {
	p := &c.cfg.Proxy
	p.Upstream = c.address("proxy.upstream", t.Upstream.or("unix:///var/run/docker.sock"))
	p.UpstreamTLS = c.tlsFiles("proxy.upstream_tls", t.UpstreamTLS)
	if p.UpstreamTLS.Set() && !strings.HasPrefix(p.Upstream, "tcp://") {
		c.fault("proxy.upstream_tls", "TLS goes with a tcp:// upstream, not with %s", p.Upstream)
	}
	p.Driver = t.Driver.or("valise")
	if p.Driver == "" {
		c.fault("proxy.driver", "the driver's name is empty")
	}
	p.RefuseUnknown = c.choice("proxy.unmatched", t.Unmatched, "pass", "refuse") == "refuse"
	p.RefuseTaken = c.choice("proxy.on_conflict", t.OnConflict, "replace", "refuse") == "refuse"
	p.Notices = c.notices("proxy.notices", t.Notices)
	seen := map[string]int{}
	for i, l := range t.Listen {
		key := fmt.Sprintf("proxy.listen[%d]", i)
		listen := c.listen(key, l)
		if first, twice := seen[listen.Address]; twice {
			c.fault(key+".address", "proxy.listen[%d] has the address %s already", first, listen.Address)
		}
		seen[listen.Address] = i
		p.Listen = append(p.Listen, listen)
	}
}

func (c *checker) notices(key string, t noticesTable) Notices {
	n := Notices{
		Off: !t.Enabled.or(true), Command: t.Command.value, Webhook: t.Webhook.value,
		Interval: c.duration(key+".interval", t.Interval, 30*time.Second, time.Second),
		Repeat:   c.duration(key+".repeat", t.Repeat, 10*time.Minute, time.Second),
	}
	if t.Command.set && n.Command == nil {
		n.Command = []string{} // the webhook alone
	}
	c.errs(key+".command", notice.CheckCommand(n.Command))
	if n.Webhook != "" {
		c.errs(key+".webhook", notice.CheckWebhook(n.Webhook))
	}
	return n
}

func (c *checker) listen(key string, t listenTable) Listen {
	l := Listen{Identity: t.Identity.value, User: t.User.value, Groups: t.Groups.value, Group: t.Group.value}
	if !t.Address.set {
		c.fault(key+".address", "missing: give unix:///path or tcp://host:port")
	} else {
		l.Address = c.address(key+".address", t.Address.value)
	}
	switch t.Policy.value {
	case "trusted":
	case "confined":
		c.fault(key+".policy", "confined listeners are not in this version of valise; only \"trusted\" is")
	case "":
		c.fault(key+".policy", "missing: say \"trusted\" where whoever can connect may do anything the Docker daemon does")
	default:
		c.fault(key+".policy", "%q is neither trusted nor confined", t.Policy.value)
	}
	l.Mode = c.fileMode(key+".mode", t.Mode, 0o660)
	l.TLS = c.tlsFiles(key+".tls", t.TLS)
	unix := strings.HasPrefix(l.Address, "unix://")
	if unix && l.TLS.Set() {
		c.fault(key+".tls", "a unix socket has no TLS")
	}
	if !unix && (t.Mode.set || t.Group.set) {
		c.fault(key, "mode and group are a unix socket's; %s is none", l.Address)
	}
	if !unix && l.TLS.CA == "" && !loopback(l.Address) {
		c.fault(key, "whoever reaches %s would be root on the daemon's host: add tls with a ca that clients are verified by, or listen on a loopback address", l.Address)
	}
	c.presets(key, l, unix)
	return l
}

// presets checks that a listener can tell what its presets ask for.
func (c *checker) presets(key string, l Listen, unix bool) {
	if len(l.Identity) == 0 {
		c.fault(key+".identity", "missing: name at least one of %s", strings.Join(identity.Presets(), ", "))
	}
	for i, name := range l.Identity {
		switch {
		case !slices.Contains(identity.Presets(), name):
			c.fault(key+".identity", "%q is none of %s", name, strings.Join(identity.Presets(), ", "))
		case slices.Contains(l.Identity[:i], name):
			c.fault(key+".identity", "%q stands there twice", name)
		case name == "peercred" && !unix:
			c.fault(key+".identity", "peercred needs a unix socket; %s is none", l.Address)
		case name == "tls" && l.TLS.CA == "":
			c.fault(key+".identity", "tls needs a tls table with the ca that client certificates are verified by")
		case name == "socket" && l.User == "":
			c.fault(key+".user", "missing: identity \"socket\" says that all who connect are this user")
		}
	}
	if l.User != "" {
		if !slices.Contains(l.Identity, "socket") {
			c.fault(key+".user", "only identity \"socket\" uses it")
		}
		if _, err := identity.ParseUsername(l.User); err != nil {
			c.fault(key+".user", "%s", err)
		}
	}
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(strings.TrimPrefix(address, "tcp://"))
	if err != nil {
		return true // reported already
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.IsLoopback())
}

func (c *checker) tlsFiles(key string, t tlsTable) TLSFiles {
	f := TLSFiles{
		CA:   c.absolute(key+".ca", t.CA, ""),
		Cert: c.absolute(key+".cert", t.Cert, ""),
		Key:  c.absolute(key+".key", t.Key, ""),
	}
	if (f.Cert == "") != (f.Key == "") {
		c.fault(key, "cert and key go together")
	}
	if strings.HasPrefix(key, "proxy.listen") && f.Set() && f.Cert == "" {
		c.fault(key, "cert and key are missing: a listener shows them to its clients")
	}
	return f
}

func (c *checker) fileMode(key string, o opt[string], def fs.FileMode) fs.FileMode {
	if !o.set {
		return def
	}
	n, err := strconv.ParseUint(o.value, 8, 32)
	if err != nil || n > 0o777 {
		c.fault(key, "%q is not an octal mode such as \"%04o\"", o.value, def)
	}
	return fs.FileMode(n)
}
