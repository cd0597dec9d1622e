package desktop

import (
	"fmt"
	"path/filepath"
)

var swayRecipe = recipe{
	binaries:       []program{{"sway", "sway"}},
	currentDesktop: "sway",
	portals:        []string{"wlr"},
	env: func(d *Desktop) []string {
		return []string{"SWAYSOCK=" + filepath.Join(d.places.run, "sway-ipc.sock")}
	},
	prepare:  prepareSway,
	seeds:    map[string]string{".config/xdg-desktop-portal-wlr/config": wlrPortalConfig},
	settled:  nothing,
	arranged: nothing,
	apps:     terminal(),
}

// swayConfig is a calm desktop with a clock. The status command is one that swaybar runs with sh.
const swayConfig = `xwayland disable
output * mode %s@60Hz
output * bg #1f2b38 solid_color
default_border pixel 1
default_floating_border pixel 1
gaps inner 8
font pango:monospace 10
client.focused #3d5166 #3d5166 #e6edf3 #6ea8c9 #5b8fb0
client.focused_inactive #2a3746 #2a3746 #9fb0c0 #2a3746 #2a3746
client.unfocused #2a3746 #2a3746 #9fb0c0 #2a3746 #2a3746
bindsym Mod4+Return exec foot
bindsym Mod4+Shift+q kill
bindsym Mod4+f fullscreen toggle
bindsym Mod4+1 workspace 1
bindsym Mod4+2 workspace 2
bindsym Mod4+3 workspace 3
bar {
  position bottom
  font pango:monospace 10
  status_command while date +'%%a %%e %%b  %%H:%%M '; do sleep 5; done
  colors {
    background #141b24
    statusline #c9d4df
    focused_workspace #3d5166 #3d5166 #e6edf3
    inactive_workspace #141b24 #141b24 #9fb0c0
  }
}
`

// wlrPortalConfig lets the portal's backend take the only output without asking, for nobody is there to choose.
const wlrPortalConfig = `[screencast]
output_name=HEADLESS-1
chooser_type=none
max_fps=60
`

func prepareSway(d *Desktop) (argv, env []string, err error) {
	path, err := d.write("sway.conf", fmt.Sprintf(swayConfig, d.cfg.Size))
	if err != nil {
		return nil, nil, err
	}
	env = []string{"WLR_BACKENDS=headless", "WLR_HEADLESS_OUTPUTS=1", "WLR_LIBINPUT_NO_DEVICES=1", "LIBSEAT_BACKEND=noop"}
	if !hasGPU() {
		env = append(env, "WLR_RENDERER=pixman")
	}
	return []string{"sway", "-c", path}, env, nil
}
