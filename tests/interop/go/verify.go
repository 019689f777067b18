// Verifies a ledger, or one entry's proof, with Go's checksum database packages (golang.org/x/mod/sumdb) and nothing of
// Trailgate's.
//
//	verify ledger   VKEY DIRECTORY INDEX            checkpoint signature, tiles, and inclusion of entry INDEX
//	verify proof    VKEY PROOF-FILE ENTRY-FILE      a .tlog-proof and the entry it speaks of
//	verify opened   VKEY PROOF-FILE                 a proof of `trailgate trail prove`: the entry in it, and its text
//	verify cosigned VKEY PROOF-FILE WITNESS-VKEY    that a witness has cosigned the proof's checkpoint
//	verify monitor  VKEY URL                        a whole log over HTTP
//	verify grown    VKEY URL CHECKPOINT-FILE        that a log over HTTP goes on from a checkpoint that was kept
//
// With Debian's packages golang-go and golang-golang-x-mod-dev:
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go run verify.go …
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const usage = `usage: verify ledger VKEY DIRECTORY INDEX
       verify proof VKEY PROOF-FILE ENTRY-FILE
       verify opened VKEY PROOF-FILE
       verify cosigned VKEY PROOF-FILE WITNESS-VKEY
       verify monitor VKEY URL
       verify grown VKEY URL CHECKPOINT-FILE`

func main() {
	if len(os.Args) < 4 {
		fail(usage)
	}
	verifier, err := note.NewVerifier(os.Args[2])
	check("the vkey", err)
	switch arguments := os.Args[3:]; {
	case os.Args[1] == "ledger" && len(arguments) == 2:
		verifyLedger(verifier, arguments[0], arguments[1])
	case os.Args[1] == "proof" && len(arguments) == 2:
		entry, err := os.ReadFile(arguments[1])
		check("the entry", err)
		readProof(arguments[0]).verify(verifier, entry)
	case os.Args[1] == "opened" && len(arguments) == 1:
		verifyOpened(verifier, readProof(arguments[0]))
	case os.Args[1] == "cosigned" && len(arguments) == 2:
		verifyCosigned(verifier, readProof(arguments[0]), arguments[1])
	case os.Args[1] == "monitor" && len(arguments) == 1:
		monitor(verifier, arguments[0])
	case os.Args[1] == "grown" && len(arguments) == 2:
		kept, err := os.ReadFile(arguments[1])
		check("the checkpoint that was kept", err)
		verifyGrown(verifier, arguments[0], kept)
	default:
		fail(usage)
	}
}

func verifyLedger(verifier note.Verifier, dir, indexText string) {
	index, err := strconv.ParseInt(indexText, 10, 64)
	check("the index", err)
	signed, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	check("the checkpoint", err)
	size, root := openCheckpoint(verifier, signed)

	// The tile reader authenticates every tile it reads against the root.
	tiles := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, tileFiles(dir))
	proof, err := tlog.ProveRecord(size, index, tiles)
	check("the tiles", err)
	check("the inclusion proof", tlog.CheckRecord(proof, size, root, index, tlog.RecordHash(readEntry(dir, size, index))))
	fmt.Printf("entry %d is in the signed tree of %d entries\n", index, size)
}

// proofFile is a .tlog-proof, taken apart and not yet verified.
type proofFile struct {
	extra  []byte
	index  int64
	hashes tlog.RecordProof
	signed []byte
}

func readProof(file string) proofFile {
	text, err := os.ReadFile(file)
	check("the proof", err)
	head, signed, found := bytes.Cut(text, []byte("\n\n"))
	if !found {
		fail("the proof has no checkpoint")
	}
	proof := proofFile{signed: signed}
	lines := strings.Split(string(head), "\n")
	if lines[0] != "c2sp.org/tlog-proof@v1" {
		fail("this is not a tlog-proof")
	}
	lines = lines[1:]
	if len(lines) > 0 && strings.HasPrefix(lines[0], "extra ") {
		proof.extra, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[0], "extra "))
		check("the extra data", err)
		lines = lines[1:]
	}
	if len(lines) == 0 || !strings.HasPrefix(lines[0], "index ") {
		fail("the proof has no index")
	}
	proof.index, err = strconv.ParseInt(strings.TrimPrefix(lines[0], "index "), 10, 64)
	check("the index", err)
	for _, line := range lines[1:] {
		hash, err := tlog.ParseHash(line)
		check("a hash of the proof", err)
		proof.hashes = append(proof.hashes, hash)
	}
	return proof
}

func (proof proofFile) verify(verifier note.Verifier, entry []byte) {
	size, root := openCheckpoint(verifier, proof.signed)
	check("the inclusion proof", tlog.CheckRecord(proof.hashes, size, root, proof.index, tlog.RecordHash(entry)))
	fmt.Printf("entry %d is in the signed tree of %d entries\n", proof.index, size)
}

// verifyOpened takes the leaf and its payload from the proof's extra data: the leaf must be the one in the tree, and each
// field of the payload must be what the leaf commits to.
func verifyOpened(verifier note.Verifier, proof proofFile) {
	var extra struct {
		Leaf     []byte
		Openings []struct {
			Field byte
			R     []byte
			Bytes []byte
		}
	}
	check("the extra data", json.Unmarshal(proof.extra, &extra))
	proof.verify(verifier, extra.Leaf)
	leaf, rest := readCBOR(extra.Leaf)
	if len(rest) > 0 {
		fail("bytes follow the leaf")
	}
	fields := leaf.(map[uint64]any)
	commitments, _ := fields[19].(map[uint64]any)
	for _, opening := range extra.Openings {
		// docs/ledger-format.md, "Commitments".
		origin := verifier.Name()
		message := []byte("trailgate/payload/v1\x00")
		message = binary.LittleEndian.AppendUint16(message, uint16(len(origin)))
		message = append(message, origin...)
		message = append(message, fields[2].([]byte)...)
		message = binary.LittleEndian.AppendUint64(message, fields[3].(uint64))
		message = append(message, byte(fields[1].(uint64)), opening.Field)
		message = append(message, opening.Bytes...)
		mac := hmac.New(sha256.New, opening.R)
		mac.Write(message)
		commitment, _ := commitments[uint64(opening.Field)].([]byte)
		if !hmac.Equal(mac.Sum(nil), commitment) {
			fail(fmt.Sprintf("field %d does not hold: it is not what the leaf commits to", opening.Field))
		}
		fmt.Printf("field %d: %s\n", opening.Field, shown(opening.Bytes))
	}
}

// shown is a field as it is if it is plain text, and quoted if it is anything that could steer a terminal.
func shown(field []byte) string {
	text := string(field)
	if utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return text
	}
	return strconv.Quote(text)
}

// verifyCosigned looks for a witness's cosignature (c2sp.org/tlog-cosignature) on the proof's checkpoint.
func verifyCosigned(verifier note.Verifier, proof proofFile, vkey string) {
	openCheckpoint(verifier, proof.signed)
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		fail("the witness's vkey is none")
	}
	id, err := strconv.ParseUint(parts[1], 16, 32)
	check("the witness's key id", err)
	key, err := base64.StdEncoding.DecodeString(parts[2])
	check("the witness's key", err)
	if len(key) != 33 || key[0] != 4 {
		fail("the witness's key is not of type 04")
	}
	hash := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	if binary.BigEndian.Uint32(hash[:]) != uint32(id) {
		fail("the witness's key id does not hold")
	}
	blank := bytes.LastIndex(proof.signed, []byte("\n\n"))
	text, lines := proof.signed[:blank+1], string(proof.signed[blank+2:])
	for _, line := range strings.Split(strings.TrimSuffix(lines, "\n"), "\n") {
		words := strings.Split(line, " ")
		if len(words) != 3 || words[1] != parts[0] {
			continue
		}
		signature, err := base64.StdEncoding.DecodeString(words[2])
		if err != nil || len(signature) != 4+8+64 || binary.BigEndian.Uint32(signature) != uint32(id) {
			continue
		}
		time := binary.BigEndian.Uint64(signature[4:])
		message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", time, text)
		if !ed25519.Verify(key[1:], []byte(message), signature[12:]) {
			fail("the cosignature does not hold")
		}
		fmt.Printf("%s has cosigned\n", parts[0])
		return
	}
	fail("the witness's cosignature does not hold: there is none")
}

// monitor fetches all of a log over HTTP (c2sp.org/tlog-tiles) and checks every entry against the signed root.
func monitor(verifier note.Verifier, prefix string) {
	size, root := openCheckpoint(verifier, fetch(prefix, "checkpoint"))
	tiles := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, tileServer(prefix))
	for first := int64(0); first < size; first += 256 {
		tile := tlog.Tile{H: 8, L: 0, N: first / 256, W: 256}
		if left := size - first; left < 256 {
			tile.W = int(left)
		}
		entries := splitBundle(fetch(prefix, strings.Replace(tilePath(tile), "tile/0/", "tile/entries/", 1)))
		if len(entries) != tile.W {
			fail("an entry bundle has another width than its name")
		}
		indexes := make([]int64, tile.W)
		for place := range indexes {
			indexes[place] = tlog.StoredHashIndex(0, first+int64(place))
		}
		hashes, err := tiles.ReadHashes(indexes)
		check("the tiles", err)
		for place, entry := range entries {
			if hashes[place] != tlog.RecordHash(entry) {
				fail(fmt.Sprintf("entry %d does not hold", first+int64(place)))
			}
		}
	}
	fmt.Printf("all %d entries are in the signed tree\n", size)
}

// verifyGrown checks that what a log has now begins with what an earlier checkpoint of it covers.
func verifyGrown(verifier note.Verifier, prefix string, kept []byte) {
	oldSize, oldRoot := openCheckpoint(verifier, kept)
	size, root := openCheckpoint(verifier, fetch(prefix, "checkpoint"))
	if oldSize > size {
		fail(fmt.Sprintf("the log does not hold: it has %d entries, and had %d: it was set back", size, oldSize))
	}
	if oldSize > 0 {
		tiles := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, tileServer(prefix))
		proof, err := tlog.ProveTree(size, oldSize, tiles)
		check("the tiles", err)
		check("the consistency proof", tlog.CheckTree(proof, size, root, oldSize, oldRoot))
	}
	fmt.Printf("the first %d of %d entries are those of the checkpoint that was kept\n", oldSize, size)
}

func fetch(prefix, path string) []byte {
	response, err := http.Get(strings.TrimSuffix(prefix, "/") + "/" + path)
	check(path, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	check(path, err)
	if response.StatusCode != http.StatusOK {
		fail(fmt.Sprintf("%s does not hold: the log answers %s", path, response.Status))
	}
	return body
}

// tileServer reads tiles over HTTP.
type tileServer string

func (prefix tileServer) Height() int { return 8 }

func (prefix tileServer) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		all = append(all, fetch(string(prefix), tilePath(tile)))
	}
	return all, nil
}

func (prefix tileServer) SaveTiles([]tlog.Tile, [][]byte) {}

func splitBundle(bundle []byte) [][]byte {
	var entries [][]byte
	for len(bundle) > 0 {
		if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
			fail("an entry bundle is torn")
		}
		length := int(binary.BigEndian.Uint16(bundle))
		entries = append(entries, bundle[2:2+length])
		bundle = bundle[2+length:]
	}
	return entries
}

// readCBOR reads one item of what leaves are made of: whole numbers, byte strings, texts, booleans, lists, and maps with
// numbers as keys.
func readCBOR(data []byte) (any, []byte) {
	if len(data) == 0 {
		fail("the leaf is torn")
	}
	major, argument, rest := data[0]>>5, uint64(data[0]&31), data[1:]
	if argument >= 24 && argument <= 27 && major != 7 {
		bytes := 1 << (argument - 24)
		if len(rest) < bytes {
			fail("the leaf is torn")
		}
		argument = 0
		for _, part := range rest[:bytes] {
			argument = argument<<8 | uint64(part)
		}
		rest = rest[bytes:]
	}
	switch major {
	case 0:
		return argument, rest
	case 1:
		return -1 - int64(argument), rest
	case 2, 3:
		if uint64(len(rest)) < argument {
			fail("the leaf is torn")
		}
		if major == 3 {
			return string(rest[:argument]), rest[argument:]
		}
		return rest[:argument], rest[argument:]
	case 4:
		var items []any
		for ; argument > 0; argument-- {
			var item any
			item, rest = readCBOR(rest)
			items = append(items, item)
		}
		return items, rest
	case 5:
		items := map[uint64]any{}
		for ; argument > 0; argument-- {
			var key, value any
			key, rest = readCBOR(rest)
			value, rest = readCBOR(rest)
			items[key.(uint64)] = value
		}
		return items, rest
	case 7:
		return argument == 21, rest
	}
	fail("the leaf has something that leaves do not have")
	return nil, nil
}

// openCheckpoint verifies the signature and reads origin, size and root.
func openCheckpoint(verifier note.Verifier, signed []byte) (int64, tlog.Hash) {
	opened, err := note.Open(signed, note.VerifierList(verifier))
	check("the checkpoint's signature", err)
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		fail("the checkpoint is not origin, size and root")
	}
	if lines[0] != verifier.Name() {
		fail("the checkpoint is of another log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check("the checkpoint's size", err)
	root, err := base64.StdEncoding.DecodeString(lines[2])
	check("the checkpoint's root", err)
	var hash tlog.Hash
	if copy(hash[:], root) != tlog.HashSize || len(root) != tlog.HashSize {
		fail("the checkpoint's root is not a SHA-256 hash")
	}
	return size, hash
}

// readEntry reads entry index from its bundle.
func readEntry(dir string, size, index int64) []byte {
	tile := tlog.Tile{H: 8, L: 0, N: index / 256, W: 256}
	if left := size - tile.N*256; left < 256 {
		tile.W = int(left)
	}
	path := strings.Replace(tilePath(tile), "tile/0/", "tile/entries/", 1)
	bundle, err := os.ReadFile(filepath.Join(dir, path))
	check("the entry bundle (a compressed one, NAME.zst, has to be decompressed first)", err)
	entries := splitBundle(bundle)
	if int64(len(entries)) <= index%256 {
		fail("the entry bundle is torn")
	}
	return entries[index%256]
}

// tileFiles reads tiles from a directory.
type tileFiles string

func (dir tileFiles) Height() int { return 8 }

func (dir tileFiles) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		data, err := os.ReadFile(filepath.Join(string(dir), tilePath(tile)))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func (dir tileFiles) SaveTiles([]tlog.Tile, [][]byte) {}

// tilePath is Go's own path without the height, which tlog-tiles fixes to 8.
func tilePath(tile tlog.Tile) string {
	return strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
}

func check(what string, err error) {
	if err != nil {
		fail(fmt.Sprintf("%s does not hold: %v", what, err))
	}
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}
