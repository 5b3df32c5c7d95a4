//go:build !broken

package guard

// On reports that the guard stands. It is a constant: the compiler drops the call and the name.
func On(Name) bool { return true }
