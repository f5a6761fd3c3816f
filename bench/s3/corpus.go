package main

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A corpus is a home to measure with: made once, the same again on every machine with
// the same Go and modules.
type corpus struct {
	Name  string `json:"name"`
	Files int    `json:"files"`
	Dirs  int    `json:"dirs"` // without the root
	Bytes int64  `json:"bytes"`
	First string `json:"first"` // a file in the middle, to read first

	tar  string // packed, or ""
	tree string // the plain directory of it
}

func (c *corpus) String() string {
	return fmt.Sprintf("%s: %d files, %d directories, %.1f MB", c.Name, c.Files, c.Dirs, float64(c.Bytes)/1e6)
}

// source is a file of which a corpus is made.
type source struct {
	path, name string
	size       int64
}

const (
	largestSource = 1 << 20
	pieceSize     = 4e6 // of the big files, more or less
	manyFiles     = 500_000
	bigFile       = 1<<30 + 700_001 // the last block is not a full one
)

// homes are the corpora of real files.
var homes = map[string]struct {
	files int
	bytes int64
}{
	"small": {2_400, 66e6},
	"large": {20_000, 400e6},
}

// corpus returns the one of that name. Trees of the homes are on the file system that
// is measured.
func (b *bench) corpus(ctx context.Context, name string) (*corpus, error) {
	if c := b.corpora[name]; c != nil {
		return c, nil
	}
	c := &corpus{Name: name, tree: filepath.Join(b.dirs.corpora, name, "tree")}
	if _, home := homes[name]; home {
		c.tar = filepath.Join(b.dirs.corpora, name, "home.tar")
		c.tree = filepath.Join(b.dirs.work, "plain-"+name)
	}
	about := filepath.Join(b.dirs.corpora, name, "corpus.json")
	if data, err := os.ReadFile(about); err == nil {
		if err := json.Unmarshal(data, c); err != nil {
			return nil, fmt.Errorf("%s: %w", about, err)
		}
	} else {
		b.say("corpus %s: making it", name)
		if err := b.makeCorpus(ctx, c); err != nil {
			return nil, fmt.Errorf("corpus %s: %w", name, err)
		}
		data, err := json.Marshal(c)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(about, data, 0o644); err != nil {
			return nil, err
		}
	}
	if c.tar != "" {
		if err := b.unpackTree(ctx, c); err != nil {
			return nil, err
		}
	}
	b.say("corpus %v", c)
	b.corpora[name] = c
	b.report.Corpora = append(b.report.Corpora, c)
	return c, nil
}

// unpackTree makes the plain directory to compare with.
func (b *bench) unpackTree(ctx context.Context, c *corpus) error {
	if err := os.Mkdir(c.tree, 0o755); err != nil {
		return err
	}
	return b.unpack(ctx, c, c.tree)
}

func (b *bench) makeCorpus(ctx context.Context, c *corpus) error {
	if err := os.MkdirAll(filepath.Join(b.dirs.corpora, c.Name), 0o755); err != nil {
		return err
	}
	if c.Name == "big" {
		return c.makeBig()
	}
	sources, err := sources(ctx)
	if err != nil {
		return err
	}
	if c.Name == "many" {
		return c.makeMany(ctx, sources)
	}
	return c.pack(sources, b.dirs.bin)
}

// sources are Go's own source tree, and the modules that this one needs.
func sources(ctx context.Context) ([]source, error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	modules, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{if not .Main}}{{.Path}} {{.Dir}}{{end}}", "all").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	goRoot := strings.TrimSpace(string(root))
	var out []source
	for _, part := range []string{"src", "test"} {
		if out, err = walk(out, filepath.Join(goRoot, part), "go/"+part); err != nil {
			return nil, err
		}
	}
	for line := range strings.Lines(string(modules)) {
		path, dir, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || dir == "" {
			continue // not needed for a build, so not there
		}
		if out, err = walk(out, dir, "modules/"+path); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func walk(out []source, dir, as string) ([]source, error) {
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path == dir {
			return nil
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil || info.Size() > largestSource {
			return err
		}
		out = append(out, source{path: path, name: as + strings.TrimPrefix(path, dir), size: info.Size()})
		return nil
	})
	return out, err
}

// programs are big files of machine code: Go's tools, and the servers of the benchmark.
func programs(ctx context.Context, bin string) ([]string, error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT", "GOTOOLDIR").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	goRoot, tools, _ := strings.Cut(strings.TrimSpace(string(root)), "\n")
	var out []string
	for _, pattern := range []string{tools + "/*", goRoot + "/bin/*", bin + "/minio", bin + "/rclone"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// pack makes a home's tar file: the first of the sources, and pieces of programs so that
// the number of files and of bytes are those wanted.
func (c *corpus) pack(sources []source, bin string) (err error) {
	want := homes[c.Name]
	sources = sources[:min(len(sources), want.files)]
	left := want.bytes
	for _, s := range sources {
		left -= s.size
	}
	pieces := max(1, int(left/pieceSize))
	sources = sources[:min(len(sources), want.files-pieces)]

	f, err := os.Create(c.tar)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(f, 1<<20)
	p := &packer{corpus: c, w: tar.NewWriter(buffered), dirs: map[string]bool{}}
	for i, s := range sources {
		if i == len(sources)/2 {
			c.First = s.name
		}
		if err := p.addFile(s); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if err := p.addPieces(bin, pieces, left); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(p.w.Close(), buffered.Flush(), f.Close())
}

// packer writes a tar file.
type packer struct {
	*corpus
	w    *tar.Writer
	dirs map[string]bool
}

// packed is the time of all files, more or less: tar files of the same files are the same.
var packed = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

func (p *packer) add(name string, size int64, from io.Reader) error {
	if err := p.addDir(filepath.Dir(name)); err != nil {
		return err
	}
	modified := packed.Add(time.Duration(p.Files) * time.Minute)
	if err := p.w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: modified}); err != nil {
		return err
	}
	n, err := io.CopyN(p.w, from, size)
	p.Files++
	p.Bytes += n
	return err
}

func (p *packer) addDir(name string) error {
	if name == "." || p.dirs[name] {
		return nil
	}
	if err := p.addDir(filepath.Dir(name)); err != nil {
		return err
	}
	p.dirs[name] = true
	p.Dirs++
	return p.w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: packed})
}

func (p *packer) addFile(s source) error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	return errors.Join(p.add(s.name, s.size, f), f.Close())
}

// addPieces adds so many files cut from programs, as many bytes in all.
func (p *packer) addPieces(bin string, pieces int, bytes int64) error {
	names, err := programs(context.Background(), bin)
	if err != nil {
		return err
	}
	var all []io.Reader
	var there int64
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		all = append(all, f)
		there += info.Size()
	}
	from := io.MultiReader(all...)
	size := min(bytes, there) / int64(pieces)
	for i := range pieces {
		if err := p.add(fmt.Sprintf("programs/%03d.bin", i), size, from); err != nil {
			return err
		}
	}
	return nil
}

// makeBig makes one large file of bytes that nothing can compress.
func (c *corpus) makeBig() error {
	c.First = "big"
	if err := os.Mkdir(c.tree, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(c.tree, c.First))
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	c.Files = 1
	c.Bytes, err = io.CopyN(w, rand.NewChaCha8([32]byte{1}), bigFile)
	return errors.Join(err, w.Flush(), f.Close())
}

// makeMany makes a tree of many small files, named like the sources again and again,
// but no name twice, with some of their content.
func (c *corpus) makeMany(ctx context.Context, sources []source) error {
	text := make([]byte, 0, 2<<10)
	made := map[string]bool{}
	sources = sources[:min(len(sources), 20_000)]
	for turn := 0; c.Files < manyFiles; turn++ {
		for _, s := range sources[:min(len(sources), manyFiles-c.Files)] {
			if err := ctx.Err(); err != nil {
				return err
			}
			name := different(s.name, turn)
			dir := filepath.Join(c.tree, filepath.Dir(name))
			if !made[dir] {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					return err
				}
				for d := dir; d != c.tree && !made[d]; d = filepath.Dir(d) {
					made[d] = true
					c.Dirs++
				}
			}
			text = fmt.Appendf(text[:0], "%s\n", name)
			for i := int64(0); i < min(s.size/64, 1024); i++ {
				text = append(text, byte('a'+i*7%26))
			}
			if err := os.WriteFile(filepath.Join(c.tree, name), text, 0o644); err != nil {
				return err
			}
			c.Files++
			c.Bytes += int64(len(text))
			if c.Files == manyFiles/2 {
				c.First = name
			}
		}
	}
	return nil
}

// different is a name that is another one on each turn, in every part but the first.
func different(name string, turn int) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		h := fnv.New32a()
		fmt.Fprintf(h, "%d/%s", turn, part)
		ext := filepath.Ext(part)
		parts[i] = fmt.Sprintf("%s-%03x%s", strings.TrimSuffix(part, ext), h.Sum32()&0xfff, ext)
	}
	return fmt.Sprintf("%02d/%s", turn, strings.Join(parts, "/"))
}
