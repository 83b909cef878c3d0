package store

import "sync"

// memo keeps encodings of one item or event by format. The zero value is
// empty and ready. Formats are few (about five), so a slice is searched.
type memo struct {
	mu      sync.Mutex // guards entries
	entries []*memoEntry
}

type memoEntry struct {
	format string
	once   sync.Once
	bytes  []byte
	err    error
}

func (m *memo) get(format string, encode func() ([]byte, error)) ([]byte, error) {
	e := m.entry(format)
	e.once.Do(func() { e.bytes, e.err = encode() })
	return e.bytes, e.err
}

func (m *memo) entry(format string) *memoEntry {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.entries {
		if e.format == format {
			return e
		}
	}
	e := &memoEntry{format: format}
	m.entries = append(m.entries, e)
	return e
}
