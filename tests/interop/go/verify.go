// Verifies a ledger, or one entry's proof, with Go's checksum database packages (golang.org/x/mod/sumdb) and nothing of
// Trailgate's.
//
//	verify ledger VKEY DIRECTORY INDEX      checkpoint signature, tiles, and inclusion of entry INDEX
//	verify proof  VKEY PROOF-FILE ENTRY-FILE    a .tlog-proof and the entry it speaks of
//
// With Debian's packages golang-go and golang-golang-x-mod-dev:
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go run verify.go …
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if len(os.Args) != 5 {
		fail("usage: verify ledger VKEY DIRECTORY INDEX | verify proof VKEY PROOF-FILE ENTRY-FILE")
	}
	verifier, err := note.NewVerifier(os.Args[2])
	check("the vkey", err)
	switch os.Args[1] {
	case "ledger":
		verifyLedger(verifier, os.Args[3], os.Args[4])
	case "proof":
		verifyProof(verifier, os.Args[3], os.Args[4])
	default:
		fail("the first argument is ledger or proof")
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

func verifyProof(verifier note.Verifier, proofFile, entryFile string) {
	text, err := os.ReadFile(proofFile)
	check("the proof", err)
	entry, err := os.ReadFile(entryFile)
	check("the entry", err)
	head, signed, found := bytes.Cut(text, []byte("\n\n"))
	if !found {
		fail("the proof has no checkpoint")
	}
	lines := strings.Split(string(head), "\n")
	if lines[0] != "c2sp.org/tlog-proof@v1" {
		fail("this is not a tlog-proof")
	}
	lines = lines[1:]
	if len(lines) > 0 && strings.HasPrefix(lines[0], "extra ") {
		lines = lines[1:]
	}
	if len(lines) == 0 || !strings.HasPrefix(lines[0], "index ") {
		fail("the proof has no index")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "index "), 10, 64)
	check("the index", err)
	var proof tlog.RecordProof
	for _, line := range lines[1:] {
		hash, err := tlog.ParseHash(line)
		check("a hash of the proof", err)
		proof = append(proof, hash)
	}
	size, root := openCheckpoint(verifier, signed)
	check("the inclusion proof", tlog.CheckRecord(proof, size, root, index, tlog.RecordHash(entry)))
	fmt.Printf("entry %d is in the signed tree of %d entries\n", index, size)
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
	check("the entry bundle", err)
	for place := int64(0); ; place++ {
		if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
			fail("the entry bundle is torn")
		}
		length := int(binary.BigEndian.Uint16(bundle))
		if place == index%256 {
			return bundle[2 : 2+length]
		}
		bundle = bundle[2+length:]
	}
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
