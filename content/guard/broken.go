//go:build broken

package guard

import "os"

// Variable is the environment variable that names the guard that is off.
const Variable = "SWARMNODE_BROKEN"

// On reports whether the guard stands in this deliberately breakable build.
func On(name Name) bool { return os.Getenv(Variable) != string(name) }
