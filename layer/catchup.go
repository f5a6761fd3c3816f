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
