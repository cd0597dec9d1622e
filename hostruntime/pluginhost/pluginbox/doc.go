// Package pluginbox is what a plugin may do: the process that the host runtime starts is this package, in the host runtime's own binary,
// which takes every right away that the plugin does not need and only then becomes the plugin (execve). So the box holds from the
// plugin's first instruction.
//
// Command says how to start; the package's init is what runs then, in every binary that links the package, before anything else of it.
// Nothing here knows of gRPC or pictures. DESIGN.md says what each kind of plugin gets and why.
package pluginbox
