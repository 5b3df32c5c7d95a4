// Package guard names the checks that keep the promises "nothing wrong is served" and "nothing acknowledged is lost". Each
// stands behind [On], which is the constant true in every build but one: with the build tag "broken" the environment
// variable SWARMNODE_BROKEN switches the guard of that name off, and the tests that .ci/e2e/guards.sh lists have to fail.
// So it is tested that the tests would notice.
package guard

// Name is the name of a guard.
type Name string

// The store of a mirror and of a publisher: nothing wrong is kept or served.
const (
	PutHash       Name = "put-hash"       // a chunk is hashed before it is stored
	ReadHash      Name = "read-hash"      // a chunk on disk is hashed at its first read after a start
	AdoptHash     Name = "adopt-hash"     // what a damaged journal lost is hashed before it counts again
	ReferenceHash Name = "reference-hash" // a chunk in the published tree is hashed when it is read
	PackHash      Name = "pack-hash"      // a metadata block is hashed when it is read
	TableDigest   Name = "table-digest"   // a segment's table has the digest that the release names
)

// Nothing acknowledged is lost.
const (
	FileSync      Name = "file-sync"       // a file is synced before it takes the place of the old one
	NameSync      Name = "name-sync"       // the directory is synced after a file took its place
	StoreNameSync Name = "store-name-sync" // the names of segment files, journal and pack are synced
	DataSync      Name = "data-sync"       // a chunk's bytes are synced before the journal says that it is here
	DataLoss      Name = "data-loss"       // chunks whose sync failed are not here
	PackSync      Name = "pack-sync"       // blocks count only after a sync without an error
	PackLoss      Name = "pack-loss"       // blocks whose sync failed are not here
	JournalSync   Name = "journal-sync"    // what the journal says counts only after a sync without an error
	JournalSum    Name = "journal-sum"     // a record of the journal with a wrong checksum is skipped
	PunchOrder    Name = "punch-order"     // the journal gives a chunk up before its bytes go
	SwitchWhole   Name = "switch-whole"    // a release is served only when all of it is here and durable
	TimestampLast Name = "timestamp-last"  // the timestamp commits the other trust files, so it is written last
	Grace         Name = "grace"           // what a replaced release uses stays until its grace is over
)

// No disk is filled.
const (
	Budget Name = "budget" // no more is planned than the operator gave
)

// No machine is kept busy.
const (
	ScrubRate     Name = "scrub-rate"     // the scrub reads so many bytes a second
	HoldingsRate  Name = "holdings-rate"  // peers are told of what changes so often
	SendMemory    Name = "send-memory"    // answers being sent hold so much memory
	ReceiveMemory Name = "receive-memory" // answers being received hold so much memory
)

// What a tree may hold.
const (
	PathParts      Name = "path-parts"      // no part of a path is empty, . or ..
	PathControl    Name = "path-control"    // no path holds NUL or another control character
	TargetAbsolute Name = "target-absolute" // no symlink is absolute
	TargetOutside  Name = "target-outside"  // no symlink leads out of the tree
	ExportHash     Name = "export-hash"     // a chunk is hashed before it is written into the target
)

// Limits and forms of what is decoded.
const (
	FormatLimit Name = "format-limit" // the size is looked at before anything is parsed
	OneEncoding Name = "one-encoding" // one value has one encoding
	ChunkLimit  Name = "chunk-limit"  // chunks have 1 byte to 1 MiB
)

// Trust.
const (
	RootPin           Name = "root-pin"           // the first root hashes to the collection's ID
	Threshold         Name = "threshold"          // as many keys of a role as it wants have signed
	Signature         Name = "signature"          // a timestamp is signed by its role
	RootExpiry        Name = "root-expiry"        // an expired root makes nothing believable
	Expiry            Name = "expiry"             // expired files are refused
	TimestampRollback Name = "timestamp-rollback" // the version of the timestamp does not go back
	ReleaseRollback   Name = "release-rollback"   // the number of the release does not go back
	Leap              Name = "leap"               // a release number that jumps is refused, so that a thief cannot use the numbers up
	TimestampFork     Name = "timestamp-fork"     // one version of the timestamp has one content
	FileFork          Name = "file-fork"          // one version of another file has one content
	ReleaseFork       Name = "release-fork"       // one number has one release
	FileDigest        Name = "file-digest"        // a file has the length and SHA-256 that was signed
	ManifestDigest    Name = "manifest-digest"    // the manifest is the one whose hash was signed
	OneSignedForm     Name = "one-signed-form"    // a signed file has one encoding and no unsigned part
	FileLimit         Name = "file-limit"         // a trust file's size is looked at before it is parsed
	SignatureLimit    Name = "signature-limit"    // the number of signatures is looked at before one is checked
	ClockFloor        Name = "clock-floor"        // no time before the newest signed one is believed
	ClockKept         Name = "clock-kept"         // the newest signed time is remembered
	ClaimSignature    Name = "claim-signature"    // a claim to publish is signed by the release role
	ClaimExpiry       Name = "claim-expiry"       // a claim ends
	ClaimLife         Name = "claim-life"         // no claim is valid for long
	ClaimPeer         Name = "claim-peer"         // a claim is about the peer that tells it
)

// Gossip.
const (
	BundleLimit   Name = "bundle-limit"   // a bundle's size is looked at before it is parsed
	InboxFork     Name = "inbox-fork"     // one number has one release, whatever the verifier says
	InboxRollback Name = "inbox-rollback" // releases do not go back, whatever the verifier says
	PullRate      Name = "pull-rate"      // announcements cause so many requests
	PullsAtOnce   Name = "pulls-at-once"  // so many requests of one peer are answered at a time
	PullLimit     Name = "pull-limit"     // an answer is not longer than asked for
	OneSeal       Name = "one-seal"       // a member record has one encoding
)

// Peers.
const (
	BlockHash    Name = "block-hash"    // a metadata block from a peer has the hash that was asked for
	OutlineHash  Name = "outline-hash"  // a block of an outline has the hash that its place says
	RequestLimit Name = "request-limit" // a request's length is looked at before it is read
	AnswerLimit  Name = "answer-limit"  // an answer's length is looked at before it is read
	ChunkSize    Name = "chunk-size"    // a chunk has the size that the table says
	RunLimit     Name = "run-limit"     // a run lies within a segment
	RunBytes     Name = "run-bytes"     // a run has no more bytes than may be asked for at once
	AnswerEnd    Name = "answer-end"    // nothing follows behind an answer
	PeerStreams  Name = "peer-streams"  // a peer has so many streams at a time
	Gater        Name = "gater"         // a banned peer is not let in and not dialed
	OffenceBan   Name = "offence-ban"   // who breaks the protocol again and again is banned
	BansKept     Name = "bans-kept"     // a ban outlives a restart
	Ban          Name = "ban"           // who sends wrong chunks again and again is not asked any more
)

// The operator's socket.
const (
	ControlLimit    Name = "control-limit"    // of a request no more is read than any needs
	SocketMode      Name = "socket-mode"      // only this user can connect to the control socket
	SocketUser      Name = "socket-user"      // only this user and root get an answer on it
	SocketDirectory Name = "socket-directory" // nobody else can put a socket in its place
)
