package migrate

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The metadata is what rclone 1.76, s3fs 1.90 and the others were seen to write.
func TestInterpret(t *testing.T) {
	const modified = 1_700_000_000_000_000_000
	type want struct {
		kind  kind
		attr  attributes
		notes int
	}
	none := map[string][]byte{}
	for name, c := range map[string]struct {
		e    entry
		meta Meta
		want want
	}{
		"rclone": {entry{}, Meta{User: map[string]string{"mtime": "981173106.123456789"}},
			want{regular, attributes{0o644, 981173106123456789, none}, 0}},
		"rclone without a fraction": {entry{}, Meta{User: map[string]string{"mtime": "1009843200"}},
			want{regular, attributes{0o644, 1009843200e9, none}, 0}},
		"rclone before 1970": {entry{}, Meta{User: map[string]string{"mtime": "-1.25"}},
			want{regular, attributes{0o644, -1250000000, none}, 0}},
		"rclone just before 1970": {entry{}, Meta{User: map[string]string{"mtime": "-0.5"}},
			want{regular, attributes{0o644, -500000000, none}, 0}},
		"rclone --metadata": {entry{}, Meta{User: map[string]string{
			"mtime": "981173106.12", "atime": "2026-11-23T06:54:05.72Z", "btime": "2026-11-23T06:53:36.2Z", "gid": "1001", "uid": "1000",
			"mode": "100755", "foo": "bar", "xdg.origin.url": "=?UTF-8?b?aHR0cDovL3gveT/DvA==?=", "md5chksum": "tuHS//9iFEAykrqPV7ayDQ==",
		}}, want{regular, attributes{0o755, 981173106120000000, map[string][]byte{"user.foo": []byte("bar"), "user.xdg.origin.url": []byte("http://x/y?ü")}}, 0}},
		"rclone link":       {entry{Link: true, Size: 9}, Meta{User: map[string]string{"mtime": "1", "btime": "2026-11-23T06:53:36.2Z", "mode": "120777"}}, want{symlink, attributes{Mtime: 1e9}, 0}},
		"rclone mount link": {entry{Link: true, Size: 9}, Meta{User: map[string]string{"mtime": "1", "btime": "2026-11-23T06:53:36.2Z", "mode": "100600"}}, want{symlink, attributes{Mtime: 1e9}, 0}},
		"rclone directory":  {entry{Dir: true}, Meta{ContentType: "application/octet-stream", User: map[string]string{"mtime": "1795416846.332063812"}}, want{directory, attributes{0o755, 1795416846332063812, none}, 0}},

		"s3fs": {entry{}, Meta{User: map[string]string{
			"atime": "981173106.123456789", "ctime": "981173106.123456789", "gid": "1001", "mode": "33261", "mtime": "981173106.123456789", "uid": "1000",
			"xattr": "%7B%22user.bin%22%3A%22AP8B%22%2C%22user.foo%22%3A%22YmFy%22%7D",
		}}, want{regular, attributes{0o755, 981173106123456789, map[string][]byte{"user.bin": {0, 255, 1}, "user.foo": []byte("bar")}}, 0}},
		"s3fs link":          {entry{Size: 10}, Meta{User: map[string]string{"ctime": "1", "mode": "41471", "mtime": "1009843200"}}, want{symlink, attributes{0o777, 1009843200e9, none}, 0}},
		"s3fs directory":     {entry{Dir: true}, Meta{ContentType: "application/x-directory", User: map[string]string{"ctime": "1", "mode": "17407", "mtime": "1046660583.330000000"}}, want{directory, attributes{0o1777, 1046660583330000000, none}, 0}},
		"s3fs old directory": {entry{}, Meta{ContentType: "application/x-directory", User: map[string]string{"mtime": "5"}}, want{directory, attributes{0o755, 5e9, none}, 0}},
		"s3fs fifo":          {entry{}, Meta{User: map[string]string{"ctime": "1", "mode": "4516"}}, want{fifo, attributes{0o644, modified, none}, 0}},
		"s3fs device":        {entry{}, Meta{User: map[string]string{"ctime": "1", "mode": "8612"}}, want{0o20000, attributes{0o644, modified, none}, 0}},
		"s3fs before 1970":   {entry{}, Meta{User: map[string]string{"ctime": "1", "mtime": "-2.500000000"}}, want{regular, attributes{0o644, -1500000000, none}, 0}},
		"s3fs system xattr": {entry{}, Meta{User: map[string]string{"ctime": "1", "xattr": "%7B%22security.capability%22%3A%22AP8B%22%2C%22user.a%22%3A%22%22%7D"}},
			want{regular, attributes{0o644, modified, map[string][]byte{"user.a": {}}}, 1}},
		"s3fs broken xattr":        {entry{}, Meta{User: map[string]string{"ctime": "1", "xattr": "%7"}}, want{regular, attributes{0o644, modified, none}, 1}},
		"s3fs set-id of another":   {entry{}, Meta{User: map[string]string{"ctime": "1", "mode": "36333", "uid": "0", "gid": "0"}}, want{regular, attributes{0o755, modified, none}, 1}},
		"s3fs set-id of the owner": {entry{}, Meta{User: map[string]string{"ctime": "1", "mode": "36333", "uid": "1234", "gid": "4321"}}, want{regular, attributes{0o6755, modified, none}, 0}},

		"goofys":            {entry{}, Meta{ContentType: "text/plain"}, want{regular, attributes{0o644, modified, none}, 0}},
		"goofys directory":  {entry{Dir: true}, Meta{}, want{directory, attributes{0o755, modified, none}, 0}},
		"text of another's": {entry{}, Meta{User: map[string]string{"foo": "bar", "xattr": "what"}}, want{regular, attributes{0o644, modified, none}, 1}},
		"nonsense":          {entry{}, Meta{User: map[string]string{"mtime": "yesterday", "mode": "rwxr-xr-x"}}, want{regular, attributes{0o644, modified, none}, 2}},
		"a time too far":    {entry{}, Meta{User: map[string]string{"mtime": "99999999999999"}}, want{regular, attributes{0o644, modified, none}, 1}},
		"an RFC 3339 time":  {entry{}, Meta{User: map[string]string{"mtime": "2001-02-03T04:05:06.5Z"}}, want{regular, attributes{0o644, 981173106500000000, none}, 0}},
		"octal alone":       {entry{}, Meta{User: map[string]string{"mode": "100755"}}, want{regular, attributes{0o755, modified, none}, 0}},
		"decimal alone":     {entry{}, Meta{User: map[string]string{"mode": "33261"}}, want{regular, attributes{0o755, modified, none}, 0}},
		"octal with a zero": {entry{}, Meta{User: map[string]string{"mode": "0100755", "ctime": "1"}}, want{regular, attributes{0o755, modified, none}, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			c.e.Modified = modified
			k, a, notes := interpret(&c.e, c.meta, testUID, testGID)
			if k != c.want.kind || len(notes) != c.want.notes {
				t.Errorf("got %v with notes %q, want %v with %d", k, notes, c.want.kind, c.want.notes)
			}
			if diff := cmp.Diff(c.want.attr, a); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
