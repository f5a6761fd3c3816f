package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"reflect"

	"valise/config"
	"valise/endpoint"
	"valise/identity"
	"valise/notice"
	"valise/proxy"

	"github.com/spf13/cobra"
)

func proxyCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "proxy",
		Short: "Serve the Engine API proxy",
		Long: "Serve the Engine API on the configured listeners and give the containers created\n" +
			"through them their users' profiles and volume mappings. SIGHUP reads the\n" +
			"configuration again; listeners and upstream change with a restart only.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runProxy(cmd.Context(), path) },
	}
	configFlag(cmd, &path)
	return cmd
}

func runProxy(ctx context.Context, path string) error {
	cfg, err := config.Load(path)
	if err != nil {
		return err
	}
	log := logger(cfg.LogLevel, cfg.LogFormat)
	logWarnings(log, cfg)
	if len(cfg.Proxy.Listen) == 0 {
		return fmt.Errorf("%s: no [[proxy.listen]]: the proxy has nowhere to listen", path)
	}
	upstream := proxy.Upstream{Address: cfg.Proxy.Upstream}
	if upstream.TLS, err = clientTLS(cfg.Proxy.UpstreamTLS); err != nil {
		return fmt.Errorf("proxy.upstream_tls: %w", err)
	}
	p, err := proxy.New(proxy.Config{
		Upstream: upstream, Driver: cfg.Proxy.Driver,
		RefuseUnmatched: cfg.Proxy.RefuseUnknown, RefuseConflict: cfg.Proxy.RefuseTaken,
		Notices: notice.Config(cfg.Proxy.Notices), Log: log,
	}, cfg.Policy)
	if err != nil {
		return err
	}
	listeners, err := openListeners(cfg.Proxy.Listen)
	if err != nil {
		return err
	}
	for _, l := range listeners {
		log.Info("listening", "address", l.Addr(), "identity", l.Identity, "upstream", cfg.Proxy.Upstream, "version", buildVersion())
	}
	running := *cfg
	r := &reloader{path: path, log: log, apply: func(cfg *config.Config) {
		p.SetPolicy(cfg.Policy)
		if !reflect.DeepEqual(running.Proxy, cfg.Proxy) || cfg.LogLevel != running.LogLevel || cfg.LogFormat != running.LogFormat {
			log.Warn("changes of the log settings and below [proxy] take effect when the proxy is restarted")
		}
	}}
	defer r.onHangup()()
	return p.Serve(ctx, listeners)
}

// openListeners opens all sockets or none.
func openListeners(settings []config.Listen) (listeners []proxy.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
		}
	}()
	for _, s := range settings {
		e := endpoint.Endpoint{Address: s.Address, Mode: s.Mode, Group: s.Group}
		if e.TLS, err = serverTLS(s.TLS); err != nil {
			return listeners, fmt.Errorf("listener %s: tls: %w", s.Address, err)
		}
		l, err := e.Listen()
		if err != nil {
			return listeners, err
		}
		listener := proxy.Listener{Listener: l, Identity: s.Identity}
		if s.User != "" {
			listener.Socket = &identity.SocketUser{User: s.User, Groups: s.Groups}
		}
		listeners = append(listeners, listener)
	}
	return listeners, nil
}

// serverTLS verifies clients where a CA is given.
func serverTLS(f config.TLSFiles) (*tls.Config, error) {
	if !f.Set() {
		return nil, nil
	}
	c, pool, err := loadTLS(f)
	if err == nil && pool != nil {
		c.ClientCAs, c.ClientAuth = pool, tls.RequireAndVerifyClientCert
	}
	return c, err
}

func clientTLS(f config.TLSFiles) (*tls.Config, error) {
	if !f.Set() {
		return nil, nil
	}
	c, pool, err := loadTLS(f)
	if err == nil {
		c.RootCAs = pool // nil = the system's
	}
	return c, err
}

func loadTLS(f config.TLSFiles) (*tls.Config, *x509.CertPool, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.Cert != "" {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if f.CA == "" {
		return c, nil, nil
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, nil, fmt.Errorf("%q holds no PEM certificate", f.CA)
	}
	return c, pool, nil
}
