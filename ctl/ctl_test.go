package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/skeg-dev/skeg/ctl/app"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ctl": func() { os.Exit(app.Run(os.Args)) }})
}

// TestScripts runs testdata/script/*.txtar: what people and scripts see.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: func(e *testscript.Env) error {
		e.Setenv("HOME", e.WorkDir)
		e.Setenv("SKEG_STATE", e.WorkDir+"/state")
		return nil
	}})
}
