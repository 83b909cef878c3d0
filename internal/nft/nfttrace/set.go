//go:build linux

package nfttrace

import (
	"bytes"
	"fmt"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/internal/nft"
)

func (m *machine) set(name string) (*nft.Set, error) {
	for i := range m.table.Sets {
		if m.table.Sets[i].Name == name {
			return &m.table.Sets[i], nil
		}
	}
	return nil, fmt.Errorf("no set %s", name)
}

func (m *machine) lookup(e *expr.Lookup) (step, error) {
	set, err := m.set(e.SetName)
	if err != nil {
		return step{}, err
	}
	element, value := m.find(set, m.get(e.SourceRegister, set.KeySize()))
	found := element != nil || value != nil
	if found == e.Invert {
		return step{stop: true}, nil
	}
	if !e.IsDestRegSet || !found {
		return step{}, nil
	}
	if e.DestRegister != unix.NFT_REG_VERDICT {
		m.put(e.DestRegister, value)
		return step{}, nil
	}
	if element == nil || element.Verdict == nil {
		return step{}, fmt.Errorf("element of %s has no verdict", set.Name)
	}
	return verdictStep(element.Verdict)
}

// find returns an element of the set, or the value of a learned one.
func (m *machine) find(set *nft.Set, key []byte) (*nft.Element, []byte) {
	for i := range set.Elements {
		if e := &set.Elements[i]; e.Key.Contains(key) {
			return e, e.Value.Bytes()
		}
	}
	if l, ok := m.tracer.learned[set][string(key)]; ok && m.tracer.Clock().Before(l.expires) {
		return nil, l.value
	}
	return nil, nil
}

func verdictStep(v *nft.Verdict) (step, error) {
	kinds := map[string]expr.VerdictKind{
		"accept": expr.VerdictAccept, "drop": expr.VerdictDrop, "return": expr.VerdictReturn,
		"jump": expr.VerdictJump, "goto": expr.VerdictGoto,
	}
	kind, ok := kinds[v.Do]
	if !ok {
		return step{}, fmt.Errorf("no verdict %q", v.Do)
	}
	return step{set: true, kind: kind, chain: v.Chain}, nil
}

// learn adds the element that a rule makes, or renews it.
func (m *machine) learn(e *expr.Dynset) error {
	set, err := m.set(e.SetName)
	if err != nil {
		return err
	}
	if m.tracer.learned[set] == nil {
		m.tracer.learned[set] = map[string]learned{}
	}
	life := e.Timeout
	if life == 0 {
		life = set.Timeout
	}
	m.tracer.learned[set][string(m.get(e.SrcRegKey, set.KeySize()))] = learned{
		value:   bytes.Clone(m.get(e.SrcRegData, max(set.ValueSize(), 1))),
		expires: m.tracer.Clock().Add(life),
	}
	return nil
}
