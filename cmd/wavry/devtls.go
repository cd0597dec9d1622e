package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/wavry/fleet/master/identity"
)

// devLife is how long the certificates of one `wavry dev` hold; they end with the process, for nobody keeps their authority's key.
const devLife = 365 * 24 * time.Hour

// devTLS is the certificate authority of one `wavry dev`. Its key stays in this process: another process of this machine, whoever runs it, is a stranger to
// the master like everybody else. The one certificate that is written is the operator's, for the person who started the fleet.
type devTLS struct {
	authority *identity.Authority
	ca        identity.KeyPair
}

func newDevTLS() (*devTLS, error) {
	authority, ca, err := identity.NewAuthority(time.Now(), devLife)
	if err != nil {
		return nil, err
	}
	return &devTLS{authority: authority, ca: ca}, nil
}

func (d *devTLS) source(role identity.Role, name string) (*identity.Source, error) {
	return d.authority.Source(identity.Identity{Role: role, Name: name}, time.Now(), devLife)
}

// writeOperator writes an operator's certificate and operator.env, with which the operator's commands reach this fleet:
//
//	set -a; . STATE_DIR/operator.env; wavry host list
func (d *devTLS) writeOperator(dir, address string) error {
	pair, err := d.authority.Issue(identity.Identity{Role: identity.RoleOperator, Name: "dev"}, nil, time.Now(), devLife)
	if err != nil {
		return err
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	environ := fmt.Sprintf("WAVRY_ADDR=%s\nWAVRY_CACERT=%s\nWAVRY_CLIENT_CERT=%s\nWAVRY_CLIENT_KEY=%s\n",
		address, path("ca.pem"), path("operator.pem"), path("operator-key.pem"))
	return errors.Join(
		replacePrivate(path("ca.pem"), d.ca.Certificate), replacePrivate(path("operator.pem"), pair.Certificate),
		replacePrivate(path("operator-key.pem"), pair.Key), replacePrivate(path("operator.env"), []byte(environ)))
}

// replacePrivate writes a file that only its owner may read, in place of the last start's: never through it, for it may be open or a link.
func replacePrivate(path string, data []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(file.Name())))
	}
	return nil
}
