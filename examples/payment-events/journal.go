package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
)

// A journal is a file with one JSON value a line, each on disk before it is true: before `add` gets it.
type journal[T any] struct {
	file *os.File
	add  func(T)
}

// openJournal adds what is there already. A kill may have left half a line: it goes, nobody was told of it.
func openJournal[T any](path string, add func(T)) (journal[T], error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND|os.O_SYNC, 0o600)
	if err != nil {
		return journal[T]{}, err
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return journal[T]{}, err
	}
	whole := text[:bytes.LastIndexByte(text, '\n')+1]
	if err := file.Truncate(int64(len(whole))); err != nil {
		return journal[T]{}, err
	}
	for line := range bytes.Lines(whole) {
		var value T
		if err := json.Unmarshal(line, &value); err != nil {
			return journal[T]{}, fmt.Errorf("%s: %q: %w", path, line, err)
		}
		add(value)
	}
	return journal[T]{file, add}, nil
}

// write ends the program when a value cannot be kept: it begins again with what is on disk.
func (j journal[T]) write(value T) {
	if err := json.NewEncoder(j.file).Encode(value); err != nil {
		log.Fatal(err)
	}
	j.add(value)
}
