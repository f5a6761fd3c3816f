package notice

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
)

const (
	nearText = "tell|near|Your home is 95 % full (95 bytes of 100 bytes). Delete files you no longer need."
	overText = "tell|over|Your home is over its limit (120 bytes of 100 bytes). Delete files you no longer need."
	backText = "tell|fits|Your home fits its limit again."
)

// Each change is told once, being over again after a while, and only to who was told.
func TestEachChangeIsToldOnce(t *testing.T) {
	bubble(t, Config{}, nil, func(r rig) {
		r.change(func() {
			r.containers = []running{with("c1", "v")}
			r.volumes["v"] = alice(50)
		})
		r.passes(3)
		r.told("c1")
		r.change(func() { r.volumes["v"] = alice(95) })
		r.passes(50)
		r.told("c1", nearText)
		r.change(func() { r.volumes["v"] = alice(120) })
		r.passes(1)
		r.told("c1", overText)
		r.passes(19) // 9.5 min
		r.told("c1")
		r.passes(1)
		r.told("c1", overText)
		r.passes(40)
		r.told("c1", overText, overText)
		r.change(func() { r.volumes["v"] = alice(50) })
		r.passes(50)
		r.told("c1", backText)
		// One listing and one inspect for each pass, and nothing else.
		if lists, inspects := r.asked("GET /containers"), r.asked("GET /volumes/v"); lists != inspects || r.asked("GET /volumes") != inspects {
			t.Errorf("%d listings, %d inspects", lists, inspects)
		}
	})
}

// A profile on S3 that is too large is not saved, which is more than being over.
func TestNotSaved(t *testing.T) {
	bubble(t, Config{}, nil, func(r rig) {
		remote := func(usage int64, unsaved bool) {
			s := alice(usage)
			s.OverLimit = unsaved
			r.change(func() { r.volumes["v"] = s })
		}
		r.change(func() { r.containers = []running{with("c1", "v")} })
		remote(120, false)
		r.passes(2)
		r.told("c1", overText)
		remote(120, true)
		r.passes(1)
		r.told("c1", "tell|over|Your home is larger than its limit (120 bytes of 100 bytes): changes are not saved until you delete files. Nothing is lost as long as you do.")
		remote(95, false)
		r.passes(1)
		r.told("c1", "tell|near|Your home fits its limit again: changes are saved. It is still 95 % full (95 bytes of 100 bytes). Delete files you no longer need.")
		remote(120, true)
		r.passes(1)
		r.ran("c1")
		remote(50, true) // deleted, but not saved yet
		r.passes(1)
		r.told("c1")
		remote(50, false)
		r.passes(1)
		r.told("c1", "tell|fits|Your home fits its limit again: changes are saved.")
	})
}

// A home that swings around the threshold warns once.
func TestNoSwinging(t *testing.T) {
	bubble(t, Config{}, nil, func(r rig) {
		r.change(func() { r.containers = []running{with("c1", "v")} })
		for range 5 {
			r.change(func() { r.volumes["v"] = alice(91) })
			r.passes(2)
			r.change(func() { r.volumes["v"] = alice(88) })
			r.passes(2)
		}
		if got := r.ran("c1"); len(got) != 1 {
			t.Errorf("told %q", got)
		}
		r.change(func() { r.volumes["v"] = alice(80) })
		r.passes(2)
		r.told("c1", "tell|fits|Your home is no longer almost full (80 bytes of 100 bytes).")
	})
}

// A container that starts later is told what the others know, once it has settled.
func TestContainerThatStartsLater(t *testing.T) {
	bubble(t, Config{Interval: 3 * time.Second}, nil, func(r rig) {
		r.change(func() {
			r.containers = []running{with("c1", "v"), with("c2", "other")}
			r.volumes["v"], r.volumes["other"] = alice(95), alice(10)
		})
		r.passes(1)
		r.told("c1", nearText)
		r.change(func() { r.containers = append(r.containers, with("c3", "v")) })
		time.Sleep(4 * time.Second)
		r.told("c3")
		r.passes(1)
		r.told("c3", nearText)
		r.told("c1")
		// It ends and another of that user begins.
		r.change(func() { r.containers = []running{with("c4", "v")} })
		r.passes(1)
		r.told("c4", nearText)
		r.told("c2")
	})
}

// What has no limit, or is not ours, is left alone.
func TestOtherVolumes(t *testing.T) {
	bubble(t, Config{}, nil, func(r rig) {
		c := with("c1", "v")
		c.Mounts = append(c.Mounts,
			container.MountPoint{Type: mount.TypeBind, Source: "/x", Destination: "/x"},
			container.MountPoint{Type: mount.TypeVolume, Name: "local", Driver: "local", Destination: "/l"},
			container.MountPoint{Type: mount.TypeVolume, Name: "share", Driver: "valise", Destination: "/share"},
			container.MountPoint{Type: mount.TypeVolume, Name: "dir", Driver: "valise:latest", Destination: "/data"},
			container.MountPoint{Type: mount.TypeVolume, Name: "new", Driver: "valise:latest", Destination: "/new"})
		dir := alice(95)
		dir.Kind, dir.User = "path", ""
		r.change(func() {
			r.containers = []running{c}
			r.volumes["v"], r.volumes["share"], r.volumes["dir"] = status{Kind: "profile"}, status{Kind: "mapping"}, dir
			r.volumes["new"] = status{Kind: "profile", Limit: 100} // not measured yet
		})
		r.passes(5)
		r.told("c1", "tell|near|The directory /data is 95 % full (95 bytes of 100 bytes). Delete files you no longer need.")
		for prefix, want := range map[string]int{"GET /volumes/local": 0, "GET /volumes/share": 1, "GET /volumes/dir": 5} {
			if got := r.asked(prefix); got != want {
				t.Errorf("%s: %d times, want %d", prefix, got, want)
			}
		}
	})
}

// An image without the command is logged once, is not asked again and again, and does
// not keep the webhook from knowing.
func TestCommandIsMissing(t *testing.T) {
	hook := &receiver{}
	bubble(t, Config{Webhook: "https://hook.example.com/secret"}, hook.receive, func(r rig) {
		r.change(func() {
			r.program = func(string) *execution {
				return &execution{code: 127, output: "exec: \"tell\": executable file not found"}
			}
			r.containers = []running{with("c1", "v"), with("c2", "v")}
			r.volumes["v"] = alice(95)
		})
		r.passes(10)
		r.told("c1", nearText)
		r.told("c2", nearText)
		r.change(func() { r.volumes["v"] = alice(120) })
		r.passes(1)
		r.told("c1")
		for _, c := range []string{"name-of-c1", "name-of-c2"} {
			if got := r.log.count("level=INFO", "could not be shown", c, "exit_code=127", "executable file not found"); got != 1 {
				t.Errorf("%s is in the log %d times:\n%s", c, got, r.log)
			}
		}
		if got := hook.levels(); got != "changed near, changed over" {
			t.Errorf("webhook: %s", got)
		}
	})
}

// A session that is not ready, or that can't be reached, gets three tries.
func TestFailuresAreTriedAgain(t *testing.T) {
	bubble(t, Config{}, nil, func(r rig) {
		failures := 2
		r.change(func() {
			r.program = func(c string) *execution {
				if c == "never" {
					return &execution{code: 1}
				}
				if failures--; failures >= 0 {
					return &execution{code: 1, output: "no session\n" + strings.Repeat("x", maxRead)}
				}
				return nil
			}
			r.containers = []running{with("slow", "v"), with("never", "v")}
			r.volumes["v"] = alice(95)
		})
		r.passes(10)
		r.told("slow", nearText, nearText, nearText)
		r.told("never", nearText, nearText, nearText)
		if got := r.log.count("name-of-slow", "no session"); got != 1 || len(r.log.String()) > 2*maxShown {
			t.Errorf("log:\n%s", r.log)
		}
	})
}

// A command that does not end delays nobody for long, and is not started beside itself.
func TestCommandHangs(t *testing.T) {
	bubble(t, Config{}, nil, func(r rig) {
		hung := &execution{hangs: true}
		r.change(func() {
			r.program = func(c string) *execution {
				if c == "c1" {
					return hung
				}
				return nil
			}
			r.containers = []running{with("c1", "v"), with("c2", "v")}
			r.volumes["v"] = alice(120)
		})
		r.passes(3)
		r.told("c1", overText)
		r.told("c2", overText)
		r.change(func() { r.volumes["v"] = alice(10) })
		r.passes(60)
		r.told("c1")
		r.told("c2", backText)
		r.change(func() { hung.runs, hung.hangs = false, false })
		r.passes(1)
		r.told("c1", backText)
		if r.log.count("could not be shown") != 0 {
			t.Errorf("log:\n%s", r.log)
		}
	})
}

// A container that goes while it is told is no fault.
func TestContainerVanishes(t *testing.T) {
	for _, at := range []string{"/exec", "/start", "/json"} {
		t.Run(at, func(t *testing.T) {
			bubble(t, Config{}, nil, func(r rig) {
				r.change(func() {
					r.refuse = func(path string) (int, string) {
						if strings.HasSuffix(path, at) && !strings.HasPrefix(path, "/containers/json") && !strings.Contains(path, "c2") {
							return http.StatusNotFound, "no such container"
						}
						return 0, ""
					}
					r.containers = []running{with("c1", "v")}
					r.volumes["v"] = alice(95)
				})
				r.passes(2)
				r.change(func() { r.containers, r.refuse = []running{with("c2", "v")}, nil })
				r.passes(2)
				r.told("c2", nearText)
				if r.log.count("") != 0 {
					t.Errorf("log:\n%s", r.log)
				}
			})
		})
	}
}

// A daemon that hangs, or is gone, costs one request at a time and is logged once.
func TestDaemonHangs(t *testing.T) {
	bubble(t, Config{Interval: 2 * time.Second}, nil, func(r rig) {
		r.change(func() {
			r.containers = []running{with("c1", "v")}
			r.volumes["v"] = alice(95)
			r.hang = func(string) bool { return true }
		})
		for range 100 {
			time.Sleep(time.Second)
			synctest.Wait()
			r.change(func() {
				if r.hanging > 1 {
					t.Errorf("%d requests hang", r.hanging)
				}
			})
		}
		if lists := r.asked("GET /containers/json"); lists < 8 || lists > 11 {
			t.Errorf("%d listings in 100 s", lists)
		}
		r.change(func() { r.hang, r.down = nil, true })
		r.passes(1)
		r.change(func() { r.down = false })
		r.passes(1)
		r.told("c1", nearText)
		if got := r.log.count("list containers"); got != 1 {
			t.Errorf("log:\n%s", r.log)
		}
	})
}

// A volume that hangs keeps what was known of it, and the others are seen.
func TestVolumeHangs(t *testing.T) {
	bubble(t, Config{}, nil, func(r rig) {
		r.change(func() {
			r.containers = []running{with("c1", "v"), with("c2", "w")}
			r.volumes["v"], r.volumes["w"] = alice(95), alice(10)
		})
		r.passes(2)
		r.told("c1", nearText)
		r.change(func() {
			r.hang = func(path string) bool { return path == "/volumes/v" }
			r.volumes["w"] = alice(95)
		})
		r.passes(5)
		r.told("c1")
		r.told("c2", nearText)
		if got := r.log.count("inspect volume", "volume=v"); got != 1 {
			t.Errorf("log:\n%s", r.log)
		}
	})
}

// Run ends at once, whatever hangs.
func TestRunEnds(t *testing.T) {
	for _, at := range []string{"/containers/json", "/volumes/v", "/containers/c1/exec", "/exec/0/start", "/exec/0/json", "webhook"} {
		t.Run(at, func(t *testing.T) {
			hook := func(r *http.Request) (*http.Response, error) {
				if at == "webhook" {
					<-r.Context().Done()
					return nil, r.Context().Err()
				}
				return answer(200, nil), nil
			}
			bubble(t, Config{Webhook: "http://hook.example.com"}, hook, func(r rig) {
				r.change(func() {
					r.containers = []running{with("c1", "v")}
					r.volumes["v"] = alice(10)
				})
				r.passes(1)
				r.change(func() {
					r.volumes["v"] = alice(95)
					r.hang = func(path string) bool { return path == at }
				})
				time.Sleep(31 * time.Second)
				synctest.Wait()
				began := time.Now()
				r.stop()
				if took := time.Since(began); took > 0 {
					t.Errorf("took %s", took)
				}
				if r.log.count("") != 0 {
					t.Errorf("log:\n%s", r.log)
				}
			})
		})
	}
}

func TestOff(t *testing.T) {
	for _, cfg := range []Config{{Off: true}, {Command: []string{}}} {
		bubble(t, cfg, nil, func(r rig) {
			r.change(func() {
				r.containers = []running{with("c1", "v")}
				r.volumes["v"] = alice(95)
			})
			r.passes(5)
			if got := r.asked(""); got != 0 {
				t.Errorf("%+v: %d requests", cfg, got)
			}
		})
	}
}

func TestDriverNames(t *testing.T) {
	for driver, want := range map[string]string{
		"valise": "valise:latest", "valise:1.2": "valise:1.2", "docker.io/x/valise": "x/valise:latest",
		"registry.example.com/x/valise:2": "registry.example.com/x/valise:2",
	} {
		if got := driverNames(driver); got[0] != driver || got[len(got)-1] != want {
			t.Errorf("%s: got %q, want %s", driver, got, want)
		}
	}
}
