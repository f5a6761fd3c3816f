//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// Both builders: the classic one streams a tar archive, BuildKit speaks gRPC over
// /session and /grpc.
func TestBuild(t *testing.T) {
	for _, kit := range []string{"0", "1"} {
		t.Run("BUILDKIT="+kit, func(t *testing.T) {
			r := plainForm(t, settings{})
			dir := filepath.Join(r.dir, "context")
			write(t, dir+"/data", "sent\n")
			write(t, dir+"/Dockerfile", "FROM "+image+"\nARG word\nCOPY data /data\nRUN cat /data && echo said-$word >/word\n")
			tag := r.name + ":built"
			t.Cleanup(func() { _ = r.direct("rmi", "-f", tag).run() })
			build := r.docker("build", "--force-rm", "--network", "none", "--build-arg", "word=loud", "-t", tag, dir)
			build.env = append(build.env, "DOCKER_BUILDKIT="+kit)
			o := build.run()
			if o.code != 0 {
				t.Fatalf("build: %d\n%s%s", o.code, o.stdout, o.stderr)
			}
			equal(t, "what was built", r.create("run", "", "--rm", tag, "cat", "/data", "/word").must(), "sent\nsaid-loud")

			write(t, dir+"/Dockerfile", "FROM "+image+"\nRUN echo before && exit 9\n")
			build.refused("9")
		})
	}
}

func TestSaveAndLoad(t *testing.T) {
	r := plainForm(t, settings{})
	tag := r.name + ":saved"
	t.Cleanup(func() { _ = r.direct("rmi", "-f", tag).run() })
	maker := r.direct("create", "--label", "rig="+r.name, image, "sh", "-c", "head -c 9000000 /dev/urandom >/big; md5sum /big").must()
	sum := r.direct("start", "-a", maker).must()
	r.docker("commit", maker, tag).must()

	file := filepath.Join(r.dir, "image.tar")
	r.docker("save", "-o", file, tag).must()
	if fi, err := os.Stat(file); err != nil || fi.Size() < 9_000_000 {
		t.Fatalf("saved: %v, %v", fi, err)
	}
	r.docker("rmi", tag).must()
	contains(t, "load", r.docker("load", "-i", file).must(), tag)
	equal(t, "what was loaded", r.create("run", "", "--rm", tag, "md5sum", "/big").must(), sum)

	r.docker("rmi", tag).must()
	piped := r.docker("load")
	piped.stdin = read(t, file)
	contains(t, "load from standard input", piped.must(), tag)
	r.docker("export", "-o", filepath.Join(r.dir, "fs.tar"), maker).must()
	contains(t, "export", command{t: t, name: "tar", args: []string{"-tf", filepath.Join(r.dir, "fs.tar")}}.must(), "home/kasm-user/", "big")
}

// What fails at the daemon fails in the same words through the proxy.
func TestErrorsPass(t *testing.T) {
	r := plainForm(t, settings{})
	for _, args := range [][]string{
		{"pull", "127.0.0.1:1/none"}, {"push", "127.0.0.1:1/none"}, {"save", "nowhere:none"}, {"inspect", "nowhere"}, {"rm", "nowhere"},
		{"run", "--rm", "--net", "none", "--label", "rig=" + r.name, image, "/no/such/program"}, {"logs", "nowhere"},
		{"exec", "nowhere", "true"}, {"volume", "rm", "nowhere"}, {"network", "connect", "nowhere", "nothing"},
	} {
		direct, through := r.direct(args...).run(), r.docker(args...).run()
		if direct.code == 0 {
			t.Errorf("docker %v succeeds", args)
		}
		equal(t, args[0]+": exit code", through.code, direct.code)
		equal(t, args[0]+": error", scrub(through.stderr), scrub(direct.stderr))
	}
}

// scrub takes out what differs from one time to the next: ids, and a complaint of the
// CLI's that depends on which of two answers it reads first.
func scrub(s string) string {
	return regexp.MustCompile(`[0-9a-f]{64}|time=.*error waiting for container.*\n`).ReplaceAllString(s, "")
}
