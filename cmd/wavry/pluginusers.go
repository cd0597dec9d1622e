package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"strconv"

	"github.com/wavry/fleet/hostruntime/desktop"
	"github.com/wavry/fleet/hostruntime/pluginhost"
)

// defaultEncodeUser owns nothing and signs in nowhere: it is beyond the numbers that distributions give to people and services.
const defaultEncodeUser = 66000

// pluginUsers says as whom plugins run, in the environment of a desktop. Nothing that decodes what others made runs as root.
func (c *hostConfig) pluginUsers(environ []string) (*pluginhost.Users, error) {
	capture, captureErr := c.captureUser(environ)
	encode, encodeErr := parsePluginUser("encode_user", c.EncodeUser)
	groups, groupsErr := parseGroups(c.EncodeGroups)
	if err := errors.Join(captureErr, encodeErr, groupsErr); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		if encode == nil {
			encode = &pluginhost.Credential{UID: defaultEncodeUser, GID: defaultEncodeUser}
		}
		if capture == nil {
			capture = &pluginhost.Credential{UID: encode.UID, GID: encode.GID}
		}
	}
	if encode != nil {
		encode.Groups = groups
	}
	return &pluginhost.Users{Capture: capture, Encode: encode}, nil
}

// captureUser is whom the configuration names, or when we are root the desktop's user; nil: neither.
func (c *hostConfig) captureUser(environ []string) (*pluginhost.Credential, error) {
	if user := lookupEnviron(environ, desktop.UserVar); c.PluginUser == "" && os.Geteuid() == 0 && user != "" {
		return parsePluginUser(desktop.UserVar+" of the desktop's environment", user)
	}
	return parsePluginUser("plugin_user", c.PluginUser)
}

func parsePluginUser(key, value string) (*pluginhost.Credential, error) {
	u, err := parseDesktopUser(value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if u == nil {
		return nil, nil
	}
	if u.UID == 0 {
		return nil, fmt.Errorf("%s = %q: plugins do not run as root; name an ordinary user", key, value)
	}
	return &pluginhost.Credential{UID: u.UID, GID: u.GID}, nil
}

func parseGroups(list []string) ([]uint32, error) {
	var groups []uint32
	var problems []error
	for _, name := range list {
		id := name
		if g, err := user.LookupGroup(name); err == nil {
			id = g.Gid
		}
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			problems = append(problems, fmt.Errorf("encode_groups = %q: no such group; give its number, as `stat -c %%g /dev/dri/renderD128` prints it", name))
			continue
		}
		groups = append(groups, uint32(n))
	}
	return groups, errors.Join(problems...)
}

// reportBox says once what this host cannot take away from its plugins.
func reportBox(log *slog.Logger, users *pluginhost.Users) {
	if gaps, remedy := users.Gaps(); gaps != "" {
		log.Warn("plugins are boxed, but not fully", "cause", gaps, "remedy", remedy)
	}
}
