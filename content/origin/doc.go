// Package origin gives read-only views of trees of files that are elsewhere: on a web, FTP, SSH or rsync server, in a package
// repository that is read by its metadata, or in a directory here. An [Origin] lists the tree and opens files; what changed since
// the last time, what to fetch, in which order, and how to make a release of it is left to node/publish.
//
// Nothing that an origin says is believed without a limit: each listing, name, size and wait has one, named in this package.
// One file per scheme; crawl.go walks the trees of those that are listed a directory at a time.
package origin
