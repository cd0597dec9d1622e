// Command gen turns protocols.txt into Go bindings. It is run by go generate in package wayland.
package main

import (
	"bytes"
	"fmt"
	"go/format"
	"log"
	"os"
	"strings"
)

func main() {
	text, err := os.ReadFile("protocols.txt")
	if err != nil {
		log.Fatal(err)
	}
	all, err := parse(string(text))
	if err != nil {
		log.Fatal(err)
	}
	source, err := format.Source(emit(all))
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile("protocols.go", source, 0o644); err != nil {
		log.Fatal(err)
	}
}

type protocol struct {
	interfaces []*iface
	goNames    map[string]string // by Wayland name
}

type iface struct {
	name, version, goName string
	requests, events      []message
}

type message struct {
	name       string
	since      string
	destructor bool
	args       []arg
}

type arg struct {
	name, kind, of string
	nullable       bool
}

func parse(text string) (*protocol, error) {
	p := &protocol{goNames: map[string]string{}}
	for n, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if err := p.line(f); err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
	}
	return p, nil
}

func (p *protocol) line(f []string) error {
	if f[0] == "interface" && len(f) == 4 {
		p.interfaces = append(p.interfaces, &iface{name: f[1], version: f[2], goName: f[3]})
		p.goNames[f[1]] = f[3]
		return nil
	}
	if len(f) < 2 || len(p.interfaces) == 0 {
		return fmt.Errorf("%q is no message", strings.Join(f, " "))
	}
	i := p.interfaces[len(p.interfaces)-1]
	m := newMessage(f)
	switch f[0] {
	case "request", "request!":
		m.destructor = f[0] == "request!"
		i.requests = append(i.requests, m)
	case "event":
		i.events = append(i.events, m)
	default:
		return fmt.Errorf("unknown word %q", f[0])
	}
	return nil
}

func newMessage(f []string) message {
	var m message
	m.name, m.since, _ = strings.Cut(f[1], "@")
	for _, a := range f[2:] {
		part := strings.SplitN(a, ":", 3)
		x := arg{name: part[0], kind: strings.TrimPrefix(part[1], "?"), nullable: strings.HasPrefix(part[1], "?")}
		if len(part) == 3 {
			x.of = part[2]
		}
		m.args = append(m.args, x)
	}
	return m
}

func emit(p *protocol) []byte {
	var b bytes.Buffer
	fmt.Fprintln(&b, "// Code generated from protocols.txt by go generate. DO NOT EDIT.\n\npackage wayland\n\nimport \"os\"")
	for _, i := range p.interfaces {
		p.emitInterface(&b, i)
	}
	return b.Bytes()
}

func (p *protocol) emitInterface(b *bytes.Buffer, i *iface) {
	fmt.Fprintf(b, "\n// %s is %s, known up to version %s.\ntype %s struct {\n\tobject\n", i.goName, i.name, i.version, i.goName)
	if len(i.events) > 0 {
		fmt.Fprintf(b, "\t// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.\n\tOn struct {\n")
		for _, m := range i.events {
			if m.since != "" {
				fmt.Fprintf(b, "\t\t// %s comes since version %s.\n", camel(m.name), m.since)
			}
			fmt.Fprintf(b, "\t\t%s func(%s)\n", camel(m.name), p.params(m.args))
		}
		fmt.Fprintln(b, "\t}")
	}
	fmt.Fprintf(b, "}\n\nvar interface%s = Interface{Name: %q, Version: %s, fds: []int{%s}}\n", camel(i.goName), i.name, i.version, descriptors(i.events))
	fmt.Fprintf(b, "\nfunc (o *%s) describe() *Interface { return &interface%s }\n", i.goName, camel(i.goName))
	for n, m := range i.requests {
		p.emitRequest(b, i, n, m)
	}
	p.emitDispatch(b, i)
}

func (p *protocol) emitRequest(b *bytes.Buffer, i *iface, opcode int, m message) {
	for _, a := range m.args {
		if a.kind == "other" {
			return
		}
	}
	fmt.Fprintf(b, "\n// %s sends %s.%s", camel(m.name), i.name, m.name)
	if m.since != "" {
		fmt.Fprintf(b, ", which exists since version %s", m.since)
	}
	if m.destructor {
		fmt.Fprint(b, ", and ends the object's life")
	}
	fmt.Fprintf(b, ".\nfunc (o *%s) %s(%s) {\n\tm := o.begin(%d)\n", i.goName, camel(m.name), p.params(m.args), opcode)
	for _, a := range m.args {
		emitPut(b, a)
	}
	if m.destructor {
		fmt.Fprintln(b, "\to.retire()") // before the compositor can confirm it
	}
	fmt.Fprintln(b, "\tm.end()\n}")
}

func emitPut(b *bytes.Buffer, a arg) {
	name := param(a.name)
	switch {
	case a.kind == "object" && a.nullable:
		fmt.Fprintf(b, "\tif %s == nil {\n\t\tm.uint(0)\n\t} else {\n\t\tm.uint(%s.id)\n\t}\n", name, name)
	case a.kind == "object":
		fmt.Fprintf(b, "\tm.uint(%s.id)\n", name)
	case a.kind == "new":
		fmt.Fprintf(b, "\tm.create(%s, o.version)\n", name)
	default:
		fmt.Fprintf(b, "\tm.%s(%s)\n", a.kind, name)
	}
}

func (p *protocol) emitDispatch(b *bytes.Buffer, i *iface) {
	fmt.Fprintf(b, "\nfunc (o *%s) dispatch(opcode uint16, a *args) {\n", i.goName)
	if len(i.events) == 0 {
		fmt.Fprintln(b, "\ta.unknownEvent(opcode)\n}")
		return
	}
	fmt.Fprintln(b, "\tswitch opcode {")
	for n, m := range i.events {
		fmt.Fprintf(b, "\tcase %d: // %s\n", n, m.name)
		p.emitEvent(b, m)
	}
	fmt.Fprintln(b, "\tdefault:\n\t\ta.unknownEvent(opcode)\n\t}\n}")
}

func (p *protocol) emitEvent(b *bytes.Buffer, m message) {
	var names []string
	fd := ""
	for _, a := range m.args {
		names = append(names, param(a.name))
		p.emitTake(b, a)
		if a.kind == "fd" {
			fd = param(a.name)
		}
	}
	fmt.Fprintf(b, "\t\tif a.ok() && o.On.%s != nil {\n\t\t\to.On.%s(%s)\n\t\t}", camel(m.name), camel(m.name), strings.Join(names, ", "))
	if fd != "" {
		fmt.Fprintf(b, " else {\n\t\t\tcloseUnwanted(%s)\n\t\t}", fd)
	}
	fmt.Fprintln(b)
}

func (p *protocol) emitTake(b *bytes.Buffer, a arg) {
	name := param(a.name)
	switch a.kind {
	case "object":
		fmt.Fprintf(b, "\t\t%s, _ := o.conn.lookup(a.uint()).(*%s)\n", name, p.goNames[a.of])
	case "new":
		fmt.Fprintf(b, "\t\t%s := new(%s)\n\t\ta.adopt(%s, o.conn, o.version)\n", name, p.goNames[a.of], name)
	default:
		fmt.Fprintf(b, "\t\t%s := a.%s()\n", name, a.kind)
	}
}

// descriptors counts those of each event.
func descriptors(events []message) string {
	var counts []string
	for _, m := range events {
		n := 0
		for _, a := range m.args {
			if a.kind == "fd" {
				n++
			}
		}
		counts = append(counts, fmt.Sprint(n))
	}
	return strings.Join(counts, ", ")
}

func (p *protocol) params(args []arg) string {
	var all []string
	for _, a := range args {
		all = append(all, param(a.name)+" "+p.goType(a))
	}
	return strings.Join(all, ", ")
}

func (p *protocol) goType(a arg) string {
	switch a.kind {
	case "int":
		return "int32"
	case "uint":
		return "uint32"
	case "fixed":
		return "float64"
	case "array":
		return "[]byte"
	case "fd":
		return "*os.File"
	case "object", "new":
		return "*" + p.goNames[a.of]
	}
	return a.kind
}

func camel(s string) string {
	var b strings.Builder
	for _, w := range strings.Split(s, "_") {
		if w != "" {
			b.WriteString(strings.ToUpper(w[:1]) + w[1:])
		}
	}
	return b.String()
}

// param is a Go parameter name that is no keyword and none of the names the generated code uses.
func param(s string) string {
	c := camel(s)
	c = strings.ToLower(c[:1]) + c[1:]
	switch c {
	case "o", "m", "a", "interface", "type", "range", "func", "map":
		return c + "_"
	}
	return c
}
