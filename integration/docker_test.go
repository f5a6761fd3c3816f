//go:build integration

package integration

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// commandTime bounds every command, far above what any needs.
const commandTime = 2 * time.Minute

// outcome is what a command printed and how it ended.
type outcome struct {
	stdout, stderr string
	code           int
}

// command is a command line to be run.
type command struct {
	t     *testing.T
	name  string
	args  []string
	env   []string
	stdin string
	dir   string
}

// run runs the command; that it can't be run at all fails the test.
func (c command) run() outcome {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.name, c.args...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Dir = c.dir
	cmd.WaitDelay = 5 * time.Second
	if c.stdin != "" {
		cmd.Stdin = strings.NewReader(c.stdin)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		c.t.Fatalf("%s: %v (%v)\n%s%s", c, err, ctx.Err(), stdout.String(), stderr.String())
	}
	return outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// must runs a command that has to succeed and returns what it printed, trimmed.
func (c command) must() string {
	c.t.Helper()
	o := c.run()
	if o.code != 0 {
		c.t.Fatalf("%s: exit code %d\n%s%s", c, o.code, o.stdout, o.stderr)
	}
	return strings.TrimSpace(o.stdout)
}

// refused runs a command that has to fail, with every part in its standard error, and
// returns that.
func (c command) refused(parts ...string) string {
	c.t.Helper()
	o := c.run()
	if o.code == 0 {
		c.t.Fatalf("%s: succeeded, want an error with %q\n%s%s", c, parts, o.stdout, o.stderr)
	}
	contains(c.t, c.String(), o.stderr, parts...)
	return o.stderr
}

func (c command) String() string { return c.name + " " + strings.Join(c.args, " ") }

// docker is the CLI at an address, with nothing of the host's own configuration.
func (e engine) docker(t *testing.T, host string, args ...string) command {
	return command{t: t, name: "docker", args: args,
		env: []string{"DOCKER_HOST=" + host, "DOCKER_CONFIG=" + filepath.Join(e.dir, "cli")}}
}

// docker is the CLI at the proxy.
func (r *rig) docker(args ...string) command { return r.engine.docker(r.t, r.proxy, args...) }

// direct is the CLI at the daemon.
func (r *rig) direct(args ...string) command { return r.engine.docker(r.t, r.engine.host, args...) }

// create is the command line of `docker create` or `docker run` for a user.
func (r *rig) create(verb, user string, args ...string) command {
	line := []string{verb, "--net", "none", "--label", "rig=" + r.name}
	if user != "" {
		line = append(line, "--label", "valise.user="+user)
	}
	return r.docker(append(line, args...)...)
}

// shell is `docker run` for a user with a shell script in the demo image.
func (r *rig) shell(user, line string, args ...string) command {
	return r.create("run", user, append(append([]string{"--rm"}, args...), image, "sh", "-c", line)...)
}

// session starts a container of a user that does nothing and returns its id.
func (r *rig) session(user string, args ...string) string {
	r.t.Helper()
	return r.create("run", user, append(append([]string{"-d"}, args...), image, "sleep", "1000")...).must()
}

// in runs a shell script in a container.
func (r *rig) in(container, line string) string {
	r.t.Helper()
	return r.docker("exec", container, "sh", "-c", line).must()
}

// end stops a container and removes it.
func (r *rig) end(container string) {
	r.t.Helper()
	r.docker("stop", "-t", "0", container).must()
	r.docker("rm", container).must()
}
