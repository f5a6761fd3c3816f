package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"valise/endpoint"
	"valise/identity"
	"valise/mapping"
	"valise/notice"

	"github.com/docker/docker/api/types/container"
)

// Config are the proxy's fixed settings.
type Config struct {
	Upstream Upstream
	Driver   string // the volume driver's name at the daemon

	RefuseUnmatched bool // a container of no workspace, or of no user, is refused
	RefuseConflict  bool // so is a mount of the caller's own at an injected target

	Notices notice.Config

	Log *slog.Logger
}

// Listener is an open socket and what is believed of those who connect to it.
type Listener struct {
	net.Listener
	Identity []string             // presets, see package identity
	Socket   *identity.SocketUser // for the preset "socket"
}

// Proxy serves the Engine API.
type Proxy struct {
	cfg     Config
	forward *forwarder
	notices *notice.Notifier
	creates *strictDecoder
	policy  atomic.Pointer[mapping.Policy]
	cleanup sync.WaitGroup // removals of control volumes
}

// New makes a proxy that works by policy.
func New(cfg Config, policy *mapping.Policy) (*Proxy, error) {
	f, err := newForwarder(cfg.Upstream, cfg.Log)
	if err != nil {
		return nil, err
	}
	notices, err := notice.New(cfg.Notices, cfg.Driver, f.do, cfg.Log)
	if err != nil {
		return nil, err
	}
	p := &Proxy{cfg: cfg, forward: f, notices: notices, creates: newStrictDecoder(reflect.TypeFor[container.CreateRequest]())}
	p.SetPolicy(policy)
	return p, nil
}

// SetPolicy puts a new policy in force for the creates that follow.
func (p *Proxy) SetPolicy(policy *mapping.Policy) { p.policy.Store(policy) }

// drainTime is how long requests under way may take to end at a shutdown.
const drainTime = 5 * time.Second

// Serve serves the listeners, and tells users of full homes, until ctx ends or one of
// the listeners fails.
func (p *Proxy) Serve(ctx context.Context, listeners []Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var serving sync.WaitGroup
	var servers []*http.Server
	for _, l := range listeners {
		s := &http.Server{
			Handler:           p.handler(l),
			ConnContext:       endpoint.ConnContext,
			ReadHeaderTimeout: 30 * time.Second,
			ErrorLog:          slog.NewLogLogger(p.cfg.Log.Handler(), slog.LevelDebug),
		}
		servers = append(servers, s)
		serving.Go(func() {
			if err := s.Serve(l.Listener); !errors.Is(err, http.ErrServerClosed) {
				cancel(err)
			}
		})
	}
	var telling sync.WaitGroup
	telling.Go(func() { p.notices.Run(ctx) })
	<-ctx.Done()
	drain, stop := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer stop()
	for _, s := range servers {
		if s.Shutdown(drain) != nil {
			s.Close()
		}
	}
	telling.Wait()
	p.forward.close()
	serving.Wait()
	p.cleanup.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// handler routes the requests of one listener.
func (p *Proxy) handler(l Listener) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The daemon's router matches the decoded, cleaned path; so must we.
		route := unversioned(path.Clean("/" + r.URL.Path))
		switch {
		case r.Method == http.MethodPost && route == "/containers/create":
			p.create(l, w, r)
		case r.Method == http.MethodPost && isStart(route) && r.ContentLength != 0:
			// Below API 1.24 a start could bring a whole HostConfig.
			writeFault(w, faultf(http.StatusBadRequest, "a start with a body is not supported by valise: give the host configuration to the create"))
		case isUpgrade(r):
			p.forward.tunnel(w, r)
		default:
			p.forward.ServeHTTP(w, r)
		}
	})
}

func isStart(route string) bool {
	rest, ok := strings.CutPrefix(route, "/containers/")
	return ok && strings.HasSuffix(rest, "/start") && strings.Count(rest, "/") == 1
}
