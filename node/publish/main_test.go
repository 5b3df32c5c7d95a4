package publish

import (
	"os"
	"runtime/debug"
	"testing"
)

// memoryLimit is what the tests take without all this.
const memoryLimit = 512 << 20

// collectLess: a quarter of the processor time of these tests is the collector's: they make much garbage and keep little. It runs a fourth as often,
// and as always from memoryLimit on. GOGC and GOMEMLIMIT have the last word.
func collectLess() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(400)
		debug.SetMemoryLimit(memoryLimit)
	}
}

func TestMain(m *testing.M) {
	collectLess()
	os.Exit(m.Run())
}
