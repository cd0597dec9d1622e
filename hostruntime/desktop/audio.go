package desktop

// audioSink gives applications a sound card: a sink whose monitor a host runtime can record. PipeWire reads it as a drop-in
// (audioDropIn, below the home).
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

const audioDropIn = ".config/pipewire/pipewire.conf.d/50-wavry-desktop.conf"
