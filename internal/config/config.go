// Package config reads cloister.yaml, which gives flags values that are not on
// the command line:
//
//	data-dir: /srv/cloister     # a flag of every command
//	up:                         # flags of one command
//	  listen: 127.0.0.1:7443
//	key import:                 # of a command below another
//	  lease: 600
//
// # What it protects against
//
// A typing mistake that is silently read as something else: a command or a flag
// that does not exist, a field that is there twice, a list where a value belongs
// are errors that show line and column.
//
// # What it does not protect against
//
// Whoever may write the file decides for whoever uses it. No flag takes a secret,
// so the file holds none.
package config

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// MaxFile is the largest file that is read, in bytes.
const MaxFile = 64 << 10

// Setting is one value in the file.
type Setting struct {
	Command string // "" for a flag of every command, else its words after cloister
	Flag    string
	Value   string
	source  []byte
	node    ast.Node
}

// Read reads the file at path.
func Read(path string) ([]Setting, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, err
	}
	return Parse(b)
}

// Parse reads the settings in their order.
func Parse(b []byte) ([]Setting, error) {
	if len(b) > MaxFile {
		return nil, fmt.Errorf("%d bytes, at most %d", len(b), MaxFile)
	}
	file, err := parser.ParseBytes(b, 0)
	if err != nil {
		return nil, errors.New(yaml.FormatError(err, false, true))
	}
	if len(file.Docs) > 1 {
		return nil, errors.New("more than one YAML document")
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil, nil
	}
	top, err := members(b, file.Docs[0].Body)
	if err != nil {
		return nil, err
	}
	var all []Setting
	for _, m := range top {
		if _, nested := m.Value.(ast.MapNode); !nested {
			s, err := setting(b, "", m)
			if err != nil {
				return nil, err
			}
			all = append(all, s)
			continue
		}
		inner, err := members(b, m.Value)
		if err != nil {
			return nil, err
		}
		for _, i := range inner {
			s, err := setting(b, m.Key.String(), i)
			if err != nil {
				return nil, err
			}
			all = append(all, s)
		}
	}
	return all, nil
}

// members returns the entries of a mapping; the parser has refused duplicates.
func members(source []byte, n ast.Node) ([]*ast.MappingValueNode, error) {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values, nil
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}, nil
	default:
		return nil, at(source, n, "want flags with their values")
	}
}

func setting(source []byte, command string, m *ast.MappingValueNode) (Setting, error) {
	switch m.Value.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.BoolNode, *ast.FloatNode:
	default:
		return Setting{}, at(source, m, "want one value")
	}
	s := Setting{Command: command, Flag: m.Key.String(), Value: m.Value.String(), source: source, node: m.Key}
	if text, ok := m.Value.(*ast.StringNode); ok {
		s.Value = text.Value
	}
	return s, nil
}

// Refuse returns an error that shows where in its file the setting is.
func (s Setting) Refuse(why string) error { return at(s.source, s.node, why) }

// at points at a node: line, column, and the line itself with a caret.
func at(source []byte, n ast.Node, why string) error {
	path, err := yaml.PathString(n.GetPath())
	if err != nil {
		return errors.New(why)
	}
	p := n.GetToken().Position
	text, err := path.AnnotateSource(source, false)
	if err != nil {
		return fmt.Errorf("line %d, column %d: %s", p.Line, p.Column, why)
	}
	return fmt.Errorf("line %d, column %d: %s\n%s", p.Line, p.Column, why, text)
}
