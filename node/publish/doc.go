// Package publish makes a release out of a directory: it scans the tree for what changed, hashes and cuts the files
// that did, gives new chunks a place in new segments, updates the file tree, the segment directory and the delta,
// and has the manifest signed (journey 1 of DESIGN). No file is copied: segments are references into the tree,
// and hard links keep what is replaced or deleted in it for the grace time.
// Announcing the release and serving its chunks are left to others.
//
// The journey in the order of the code: [Scan] (walk.go, snapshot.go), [Digest] (digest.go, pipeline.go),
// [Publisher.Publish] (publish.go and the files it names). [Publisher.Clean] lets go of replaced releases later.
package publish
