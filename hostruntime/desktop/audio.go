package desktop

import "path/filepath"

// audioSink gives applications a sound card: a sink whose monitor a host runtime can record. PipeWire reads it as a drop-in.
const audioSink = `context.objects = [
  { factory = adapter
    args = {
      factory.name     = support.null-audio-sink
      node.name        = "wavry-desktop"
      node.description = "Desktop sound"
      media.class      = Audio/Sink
      audio.position   = [ FL FR ]
      audio.rate       = 48000
      object.linger    = true
      monitor.channel-volumes = true
    }
  }
]
`

func (d *Desktop) writeAudio() error {
	return d.write(filepath.Join(d.places.home, ".config/pipewire/pipewire.conf.d/50-wavry-desktop.conf"), audioSink, 0o600)
}
