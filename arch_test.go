package valise

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// imports are the edges between the project's packages that are allowed:
//
//	identity ← profile ← {mapping, volume} ← {proxy, plugin}          policy
//	beneath ← plugin, endpoint ← proxy                                mechanism
//	tree ← store ← {store/s3, cache, fusefs, layer} ← session ← fleet profiles on S3
//	quota ← session, which limits what a home takes on the disk
//	fleet ← plugin, which serves those as well
//	config reads the file for cmd alone, and asks layer and store/s3 whether the words of
//	theirs in it are good; no package imports cmd
var imports = map[string][]string{
	"identity":    {},
	"profile":     {"identity"},
	"mapping":     {"identity", "profile"},
	"volume":      {"identity", "profile"},
	"beneath":     {},
	"endpoint":    {},
	"config":      {"beneath", "identity", "layer", "mapping", "notice", "profile", "store/s3"},
	"plugin":      {"beneath", "durable", "fleet", "identity", "layer", "mapping", "profile", "session", "store", "volume"},
	"proxy":       {"endpoint", "identity", "mapping", "notice", "profile", "volume"},
	"notice":      {"profile"},
	"durable":     {},
	"integration": {},
	"bench":       {},
	"bench/s3":    {},

	"tree":                   {},
	"store":                  {"tree"},
	"store/s3":               {"store"},
	"store/storetest":        {"store"},
	"store/storetest/server": {},
	"cache":                  {"store", "tree"},
	"fusefs":                 {"store", "tree"},
	"layer":                  {"store", "tree"},
	"extract":                {"store", "tree"},
	"quota":                  {},
	"session":                {"cache", "durable", "fusefs", "layer", "quota", "store", "tree"},
	"supervise":              {},
	"fleet":                  {"durable", "session", "store"},
	"integration/s3":         {},

	"migrate": {"durable", "store"},

	"cmd/valise": {"beneath", "cache", "config", "endpoint", "extract", "fleet", "identity", "layer", "migrate", "notice", "plugin", "profile", "proxy", "quota", "session", "store", "store/s3", "supervise"},
}

// alone are modules that few packages keep to themselves, tests apart.
var alone = map[string][]string{
	"github.com/BurntSushi/toml":          {"config"},
	"github.com/aws":                      {"store/s3", "store/storetest/server"},
	"github.com/hanwen/go-fuse":           {"fusefs"},
	"github.com/prometheus/client_golang": {"plugin"},
	"github.com/spf13/cobra":              {"cmd/valise"},
}

// maxLines is the size of a file that still has one subject.
const maxLines = 500

// source is a Go file of the project.
type source struct {
	path, dir string
	lines     int
	comment   bool // it has the package's comment
	imports   []string
}

func sources(t *testing.T) []source {
	t.Helper()
	var out []source
	err := filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (strings.HasPrefix(e.Name(), ".") && path != "." || path == "build" || e.Name() == "testdata") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, data, parser.ParseComments|parser.ImportsOnly)
		if err != nil {
			return err
		}
		s := source{path: path, dir: filepath.Dir(path), lines: strings.Count(string(data), "\n"), comment: f.Doc != nil}
		for _, i := range f.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, name)
		}
		out = append(out, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestImportsPointTheRightWay(t *testing.T) {
	for _, s := range sources(t) {
		test := strings.HasSuffix(s.path, "_test.go")
		allowed, known := imports[s.dir]
		if !known && s.dir != "." {
			t.Errorf("%s: package %q is not in the table of allowed imports", s.path, s.dir)
			continue
		}
		for _, name := range s.imports {
			if pkg, ours := strings.CutPrefix(name, "valise/"); ours && !slices.Contains(allowed, pkg) && !test {
				t.Errorf("%s imports %s, which the table does not allow", s.path, pkg)
			}
			for module, owners := range alone {
				if strings.HasPrefix(name, module) && !slices.Contains(owners, s.dir) && !test {
					t.Errorf("%s imports %s, which only %v may", s.path, module, owners)
				}
			}
		}
	}
}

func TestEachPackageSaysWhatItIsFor(t *testing.T) {
	comments := map[string]int{}
	for _, s := range sources(t) {
		if s.dir == "." {
			continue
		}
		if s.comment && !strings.HasSuffix(s.path, "_test.go") {
			comments[s.dir]++
		} else if _, seen := comments[s.dir]; !seen {
			comments[s.dir] = 0
		}
	}
	for dir, n := range comments {
		if n != 1 {
			t.Errorf("package %s has %d package comments, want one", dir, n)
		}
	}
}

func TestFilesAreShort(t *testing.T) {
	for _, s := range sources(t) {
		if s.lines > maxLines {
			t.Errorf("%s has %d lines, more than %d: split it by subject", s.path, s.lines, maxLines)
		}
	}
}
