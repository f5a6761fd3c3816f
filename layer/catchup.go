package layer

import "context"

// rounds is how often a walk that is disturbed looks for what it has passed by.
// Two that find nothing, though directories change on, are the last ones.
const rounds = 8

// catchUp adds to a walk that was disturbed, and that no other one follows, what was
// moved past it: from a directory before it was listed to one that had been. It lists
// the directories that have changed once more, which takes far less time than the walk,
// and adds what has no row yet. What has one keeps its place, though it may have
// another by now.
func (w *walk) catchUp(ctx context.Context) error {
	for round, idle := 0, 0; round < rounds && idle < 2; round++ {
		changed := map[*dir]map[string]int{}
		byItem := map[int]map[string]int{}
		for _, d := range w.order {
			if now, err := w.dirs.stampOf(d); err == nil && now != d.stamp && now.ino == d.stamp.ino {
				changed[d] = map[string]int{}
				byItem[d.item] = changed[d]
			}
		}
		if len(changed) == 0 {
			return nil
		}
		w.disturb("directories were changed meanwhile")
		for i, it := range w.items {
			if names, ok := byItem[it.dir]; ok && i > 0 && !it.void {
				names[it.name] = i
			}
		}
		found := len(w.items)
		for _, d := range w.order {
			if names, ok := changed[d]; ok {
				if err := w.list(ctx, d, names); err != nil {
					return err
				}
			}
		}
		if err := w.listAll(ctx); err != nil {
			return err
		}
		if len(w.items) == found {
			idle++
		}
	}
	return nil
}

// lookAgain adds what stands now at the places of files that were met elsewhere later,
// where a row is missing: the file that was there may have been replaced, and its number
// be that of another one. Files that are replaced again and again could keep it busy for
// ever, so in the end it takes what it sees.
func (w *walk) lookAgain(ctx context.Context) error {
	if len(w.displaced) == 0 {
		return nil
	}
	dirs, rows, seen := map[int]*dir{}, map[place]int{}, 0
	for _, d := range w.order {
		dirs[d.item] = d
	}
	enough := 2 * len(w.displaced)
	for i := 0; i < len(w.displaced); i++ {
		for ; seen < len(w.items); seen++ {
			rows[place{w.items[seen].dir, w.items[seen].name}] = seen
		}
		at := w.displaced[i]
		d := dirs[at.dir]
		if row := rows[at]; d == nil || w.items[at.dir].void || !w.items[row].void {
			continue
		}
		w.doubling = i >= enough
		fd, err := w.dirs.get(d)
		if err != nil {
			w.lost(d.path(), err)
			continue
		}
		l := &listing{walk: w, dir: d, prefix: w.prefix(d)}
		if err := l.name(ctx, fd, at.name); err != nil {
			return err
		}
	}
	w.doubling = true
	return w.listAll(ctx)
}

// passedBy takes back the rows of a directory that was moved before all below it was
// listed, so that it is met again where it is now.
func (w *walk) passedBy(d *dir) {
	moved := d
	for a := d; a.parent != nil; a = a.parent {
		if now, err := w.dirs.stampOf(a); err != nil || now.ino != a.stamp.ino {
			moved = a
		}
	}
	if moved.parent == nil {
		return
	}
	for i := moved.item; i < len(w.items); i++ {
		it := &w.items[i]
		if i == moved.item || w.items[it.dir].void {
			it.void = true
			if it.rec != nil {
				it.rec.met = nil
			}
		}
	}
}
