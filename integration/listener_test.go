//go:build integration

package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// authority signs certificates into a directory.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir string) *authority {
	a := &authority{t: t, dir: mkdir(t, dir)}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true,
	}
	a.key = a.write("ca", a.cert)
	return a
}

// sign makes NAME.pem and NAME.key.
func (a *authority) sign(name string, subject pkix.Name) {
	a.write(name, &x509.Certificate{
		SerialNumber: big.NewInt(numbers.Add(1)), Subject: subject,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	})
}

func (a *authority) write(name string, cert *x509.Certificate) *ecdsa.PrivateKey {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	signer := a.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	write(a.t, filepath.Join(a.dir, name+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(a.t, filepath.Join(a.dir, name+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	return key
}

// freePort is a loopback port that was free a moment ago.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// The certificate's CN is the user, its OUs are the groups.
func TestTLSListener(t *testing.T) {
	t.Parallel()
	dir := tempDir(t, theEngine(t))
	ca, strange := newAuthority(t, dir+"/ca"), newAuthority(t, dir+"/strange")
	ca.sign("server", pkix.Name{CommonName: "valise"})
	ca.sign("alice", pkix.Name{CommonName: "alice", OrganizationalUnit: []string{"staff"}})
	ca.sign("climber", pkix.Name{CommonName: "../bob"})
	strange.sign("mallory", pkix.Name{CommonName: "alice"})
	address := fmt.Sprintf("tcp://127.0.0.1:%d", freePort(t))
	r := newRig(t, theEngine(t), plain, settings{
		tables: desktop + `
[groups.staff]
[groups.staff.volume_mappings."@mnt/staff"]
bind = "/staff"
`,
		listen: fmt.Sprintf(`
[[proxy.listen]]
address = %q
policy = "trusted"
identity = ["tls"]
tls = {ca = "%[2]s/ca/ca.pem", cert = "%[2]s/ca/server.pem", key = "%[2]s/ca/server.key"}
`, address, dir)})
	mkdir(t, r.path("staff"))
	docker := func(as string, args ...string) command {
		return r.engine.docker(t, address, append([]string{"--tlsverify", "--tlscacert", dir + "/ca/ca.pem",
			"--tlscert", dir + as + ".pem", "--tlskey", dir + as + ".key"}, args...)...)
	}
	run := []string{"run", "--rm", "-i", "--net", "none", "--label", "rig=" + r.name, image, "sh", "-c", "cat >notes; ls -d /staff; ls -A"}
	c := docker("/ca/alice", run...)
	c.stdin = "over TLS\n"
	equal(t, "alice's container, its input ended", c.must(), "/staff\nnotes")
	equal(t, "alice's notes", read(t, r.path("desktop/alice/notes")), "over TLS\n")
	// A label can't say otherwise here: it is not asked.
	docker("/ca/alice", "run", "--rm", "--net", "none", "--label", "valise.user=bob", "--label", "rig="+r.name, image, "touch", "alices").must()
	equal(t, "profiles", names(t, r.path("desktop")), "alice")
	docker("/ca/climber", run...).refused("../bob")
	docker("/strange/mallory", "version").refused("certificate")

	bare := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	if a, err := requestBy(bare, "https"+address[len("tcp"):]+"/_ping", "GET", nil); err == nil {
		t.Errorf("without a certificate: got %d %s, want no answer", a.status, a.body)
	}
}

func TestTCPAndSocketListeners(t *testing.T) {
	t.Parallel()
	address := fmt.Sprintf("tcp://127.0.0.1:%d", freePort(t))
	open, err := os.MkdirTemp("/tmp", "valise.") // the engine's directory is root's alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(open) })
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, theEngine(t), plain, settings{
		tables: desktop + `
[groups.staff]
[groups.staff.volume_mappings."@mnt/staff"]
bind = "/staff"
`,
		listen: fmt.Sprintf(`
[[proxy.listen]]
address = %q
policy = "trusted"
identity = ["valise"]
[[proxy.listen]]
address = "unix://@dir/alice.sock"
policy = "trusted"
identity = ["socket", "valise"]
user = "alice"
groups = ["staff"]
mode = "0600"
[[proxy.listen]]
address = "unix://%s/peer.sock"
policy = "trusted"
identity = ["peercred"]
mode = "0666"
`, address, open)})
	peer := "unix://" + open + "/peer.sock"
	mkdir(t, r.path("staff"))
	run := func(host string, args ...string) command {
		line := append([]string{"run", "--rm", "-i", "--net", "none", "--label", "rig=" + r.name}, args...)
		c := r.engine.docker(t, host, append(line, image, "sh", "-c", "cat; stat -c %u .; touch mark")...)
		c.stdin = "hi\n"
		return c
	}
	equal(t, "over TCP", run(address, "--label", "valise.user=carol").must(), "hi\n1000")
	equal(t, "carol's home", names(t, r.path("desktop/carol")), "mark")

	equal(t, "mode of alice's socket", owner(t, r.dir+"/alice.sock"), "0:0 0600")
	equal(t, "by alice's socket", run(r.at("alice.sock")).must(), "hi\n1000")
	equal(t, "alice's home", names(t, r.path("desktop/alice")), "mark")
	equal(t, "as herself by label too", run(r.at("alice.sock"), "--label", "valise.user=alice").must(), "hi\n1000")
	run(r.at("alice.sock"), "--label", "valise.user=bob").refused("socket", `"alice"`, `"bob"`, "agree")
	equal(t, "alice's groups", r.engine.docker(t, r.at("alice.sock"), "run", "--rm", "--net", "none", "--label", "rig="+r.name, image, "ls", "-d", "/staff").must(), "/staff")

	equal(t, "by the peer's uid", run(peer).must(), "hi\n1000")
	equal(t, "root's home", names(t, r.path("desktop/root")), "mark")
	// Root in another mount namespace, as in a container, is not root here.
	away := run(peer)
	away.name, away.args = "unshare", append([]string{"--mount", "docker"}, away.args...)
	away.refused("another mnt namespace")
	// An ordinary user of this machine is known by name.
	nobody := run(peer)
	nobody.name, nobody.args = "setpriv", append([]string{"--reuid=65534", "--regid=65534", "--clear-groups", "docker"}, nobody.args...)
	nobody.env = append(nobody.env, "DOCKER_CONFIG="+open)
	equal(t, "by nobody", nobody.must(), "hi\n1000")
	equal(t, "nobody's home", names(t, r.path("desktop/nobody")), "mark")
	equal(t, "profiles", names(t, r.path("desktop")), "alice carol nobody root")
}

// A daemon that is not there is an error in Docker's form, on every endpoint.
func TestUnreachableDaemon(t *testing.T) {
	t.Parallel()
	e := theEngine(t)
	dir := tempDir(t, e)
	file := filepath.Join(dir, "config.toml")
	write(t, file, fmt.Sprintf(`
[proxy]
upstream = "unix://%[1]s/nobody.sock"
[[proxy.listen]]
address = "unix://%[1]s/p.sock"
policy = "trusted"
identity = ["valise"]
[roots."/mnt"]
[workspaces.desktop]
images = ["valise-demo/desktop"]
profile = "/mnt/{username}"
`, dir))
	proxy := start(t, "proxy", "--config", file)
	t.Cleanup(func() { proxy.stop(t, terminate) })
	proxy.awaits(t, "msg=listening")
	address := "unix://" + dir + "/p.sock"
	for _, c := range []struct {
		method, path string
		body         any
	}{
		{"GET", "/_ping", nil}, {"GET", "/v1.41/containers/json", nil},
		{"POST", "/containers/create", body{"Image": image, "Labels": body{"valise.user": "alice"}}},
		{"POST", "/containers/create", body{"Image": "other"}},
		{"POST", "/v1.41/containers/x/attach?stdout=1", nil}, {"POST", "/exec/x/start", body{}},
		{"POST", "/build", "archive"}, {"POST", "/session", nil},
	} {
		a, err := request(address, c.method, c.path, c.body)
		if err != nil {
			t.Errorf("%s %s: %v", c.method, c.path, err)
			continue
		}
		a.refused(t, c.method+" "+c.path, 502, "nobody.sock")
	}
	o := e.docker(t, address, "ps").run()
	equal(t, "docker ps: exit code", o.code, 1)
	if !regexp.MustCompile(`Error response from daemon: .*nobody\.sock`).MatchString(o.stderr) {
		t.Errorf("docker ps: got %q", o.stderr)
	}
}
