// Package publish makes a release out of a directory, or of an origin: it scans the tree for what changed, hashes and cuts the files
// that did, gives new chunks a place in new segments, updates the file tree, the segment directory and the delta,
// and has the manifest signed (journey 1 of DESIGN). No file is copied: segments are references into the tree,
// and hard links keep what is replaced or deleted in it for the grace time.
// Announcing the release and serving its chunks are left to others.
//
// The journey in the order of the code: [Scan] (walk.go, snapshot.go), [Digest] (digest.go, pipeline.go),
// [Publisher.Publish] (publish.go and the files it names). [Publisher.Clean] lets go of replaced releases later.
//
// Of an origin, a tree elsewhere, the first half is another: pull.go lists it until it has held still (listing.go), fetches what is new
// (arrive.go) into segments that grow ([store.Arrivals]), and remembers what has arrived of which file (seen.go). From the hashes on it
// is the same.
package publish
