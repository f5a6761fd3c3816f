//go:build integration

package integration

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"valise/store/storetest/server"
)

// form is one of the two ways to run the driver.
type form string

const (
	plain   form = "plain"   // a process of the host, found by its socket
	managed form = "managed" // a managed plugin
)

// settings are a rig's configuration beside what every rig has. In them @mnt is the
// directory of profiles and mappings as the configuration names it, @dir the rig's own
// on the host.
type settings struct {
	general string // keys of the file
	plugin  string // keys of [plugin]
	proxy   string // keys of [proxy]
	listen  string // [[proxy.listen]] tables beside the rig's own
	tables  string // workspaces, groups, roots, users; desktop if empty
	s3      string // keys of [s3]

	accessKey string   // of [s3], the store's if empty
	env       []string // of the driver

	file string // content of a mapping file beside the configuration, @file in it

	store  *server.Server    // where profiles on S3 lie
	prefix string            // @rig in the configuration, "" = the driver's name
	extra  map[string]string // files beside the configuration, which sees them below @etc

	noProxy   bool
	faulty    bool // the driver need not come up
	private   bool // the host's mounts do not propagate to a managed plugin
	activated bool // the plain driver's socket is handed to it, as systemd does
}

// desktop is the workspace of most tests.
const desktop = `
[workspaces.desktop]
images  = ["valise-demo/desktop"]
profile = "@mnt/desktop/{username}"
`

// rig is a driver, a proxy, and a place on disk.
type rig struct {
	t        *testing.T
	engine   engine
	form     form
	settings settings

	name  string // the driver's
	proxy string // address of the proxy's own listener, identity "valise"
	dir   string // on the host
	mnt   string // the directory of profiles and mappings, on the host
	seen  string // the same as the driver and the configuration name it
	admin string // the admin socket's address on the host

	driver  *process // plain form
	handed  *os.File // its listening socket, if settings.activated
	serving *process // the proxy
}

// bothForms runs a test with a rig of each form.
func bothForms(t *testing.T, s settings, test func(*testing.T, *rig)) {
	t.Parallel()
	for _, f := range []form{plain, managed} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			test(t, newRig(t, theEngine(t), f, s))
		})
	}
}

// plainForm runs a test of what the driver's form makes no difference to.
func plainForm(t *testing.T, s settings) *rig {
	t.Parallel()
	return newRig(t, theEngine(t), plain, s)
}

func newRig(t *testing.T, e engine, f form, s settings) *rig {
	t.Helper()
	r := &rig{t: t, engine: e, form: f, settings: s, name: unique("valise-")}
	r.dir = tempDir(t, e)
	r.mnt, r.seen = mkdir(t, filepath.Join(r.dir, "mnt")), filepath.Join(r.dir, "mnt")
	if f == managed {
		r.seen = "/mnt"
		// What the host mounts later reaches the plugin only from a shared mount.
		propagate(t, r.mnt, !s.private)
	}
	for _, sub := range []string{"lib", "run", "etc"} {
		mkdir(t, filepath.Join(r.dir, sub))
	}
	r.admin = "unix://" + filepath.Join(r.dir, "run/valise/admin.sock")
	r.proxy = "unix://" + filepath.Join(r.dir, "p.sock")
	if s.tables == "" {
		r.settings.tables = desktop
	}
	write(t, r.configFile(), r.config(r.settings))
	for name, content := range s.extra {
		write(t, filepath.Join(r.dir, "etc", name), content)
	}
	write(t, filepath.Join(r.dir, "etc/mappings.json"), r.fill(s.file))
	t.Cleanup(r.removeDriver)
	t.Cleanup(r.removeObjects)
	t.Cleanup(r.report)
	if f == managed {
		r.install()
	} else {
		r.startDriver()
	}
	if !s.noProxy {
		r.startProxy()
	}
	return r
}

// etc is the configuration's directory as the driver sees it.
func (r *rig) etc() string {
	if r.form == managed {
		return "/etc/valise"
	}
	return filepath.Join(r.dir, "etc")
}

func (r *rig) configFile() string { return filepath.Join(r.dir, "etc/config.toml") }

// config is the whole configuration file.
func (r *rig) config(s settings) string {
	state, admin := filepath.Join(r.dir, "lib/valise"), r.admin
	if r.form == managed {
		state, admin = "/var/lib/valise", "unix:///run/valise/admin.sock"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "state_dir = %q\n%s\n", state, s.general)
	fmt.Fprintf(&b, "[plugin]\nsocket = %q\nadmin = %q\nusage_interval = \"1s\"\n%s\n", r.socket(), admin, s.plugin)
	fmt.Fprintf(&b, "[proxy]\nupstream = %q\ndriver = %q\n%s\n", r.engine.host, r.name, s.proxy)
	fmt.Fprintf(&b, "[[proxy.listen]]\naddress = %q\npolicy = \"trusted\"\nidentity = [\"valise\"]\n%s\n", r.proxy, s.listen)
	fmt.Fprintf(&b, "%s[roots.\"@mnt\"]\n%s\n", r.s3Table(), s.tables)
	return r.fill(b.String())
}

func (r *rig) fill(s string) string {
	return strings.NewReplacer("@mnt", r.seen, "@file", "mappings.json", "@dir", r.dir, "@rig", cmp.Or(r.settings.prefix, r.name), "@etc", r.etc()).Replace(s)
}

// configure replaces the tables of the configuration file; nobody reads it yet.
func (r *rig) configure(tables string) {
	r.t.Helper()
	s := r.settings
	s.tables = tables
	write(r.t, r.configFile(), r.config(s))
}

// path is a file below the directory of profiles and mappings, on the host.
func (r *rig) path(elem ...string) string {
	return filepath.Join(append([]string{r.mnt}, elem...)...)
}

// report shows what a failed test's processes had to say.
func (r *rig) report() {
	if r.t.Failed() {
		r.t.Logf("driver:\n%s", r.driverLog())
		if r.serving != nil {
			r.t.Logf("proxy:\n%s", r.serving.output())
		}
	}
}

// removeObjects removes the containers and volumes of the rig, for which the driver
// has to be there.
func (r *rig) removeObjects() {
	if r.form == plain && !r.driver.running() {
		r.startDriver()
	}
	r.removeListed("container", "rm -f", "ps", "-aq", "--filter", "label=rig="+r.name)
	for _, v := range r.volumes() {
		r.removeListed("container", "rm -f", "ps", "-aq", "--filter", "volume="+v)
	}
	// The proxy removes its control volumes behind the answer.
	r.stopProxy()
	for _, v := range r.volumes() {
		if o := r.direct("volume", "rm", "-f", v).run(); o.code != 0 {
			r.t.Errorf("clean up volume %s: %s", v, o.stderr)
		}
	}
}

func (r *rig) removeListed(what, remove string, list ...string) {
	for _, id := range strings.Fields(r.direct(list...).run().stdout) {
		args := append(strings.Fields(what+" "+remove), id)
		if o := r.direct(args...).run(); o.code != 0 && !strings.Contains(o.stderr, "No such") {
			r.t.Errorf("clean up: docker %s: %s", strings.Join(args, " "), o.stderr)
		}
	}
}

// volumes lists the driver's volumes that the daemon knows.
func (r *rig) volumes() []string {
	name := r.name
	if r.form == managed {
		name += ":latest"
	}
	return strings.Fields(r.direct("volume", "ls", "-q", "--filter", "driver="+name).run().stdout)
}

// valise is the operator's command line, at the rig's driver.
func (r *rig) valise(args ...string) command {
	return command{t: r.t, name: binary(r.t), args: args, env: []string{"VALISE_ADMIN=" + r.admin}}
}

func binary(t *testing.T) string {
	t.Helper()
	path := environment(t, "VALISE_BINARY")
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// reload makes driver and proxy take new tables.
func (r *rig) reload(tables string) {
	r.t.Helper()
	r.configure(tables)
	r.valise("reload").must()
	if r.serving != nil {
		before := strings.Count(r.serving.output(), "configuration reloaded")
		r.serving.signal(hangup)
		eventually(r.t, "the proxy reloads", 10*time.Second, func() error {
			if strings.Count(r.serving.output(), "configuration reloaded") == before {
				return fmt.Errorf("it has not yet")
			}
			return nil
		})
	}
}
