// Package policy makes a node's decisions and carries out none of them: [Transfer] says which peer is asked for which
// run of chunks, [Peers] which peers to dial and which connections to keep. Everything is pure: events and the time
// come in as method calls, decisions go out as values, randomness comes from the caller's source, so that the
// simulator runs exactly what the node runs and the same seed gives the same decisions. Nothing here is safe for
// concurrent use: the driver owns each object with one goroutine or one mutex.
package policy
