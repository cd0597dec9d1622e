package master

import (
	"testing"

	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterapi/masterapiconnect"
)

// Gateways may do what their admins' page offers, and nobody else may but operators; the rest stays with operators.
func TestPermitAdminPage(t *testing.T) {
	for procedure, gateway := range map[string]bool{
		masterapiconnect.FleetServiceSetRelayStateProcedure: true, masterapiconnect.FleetServiceSetHostStateProcedure: true,
		masterapiconnect.KeyServiceRotateProcedure: true, masterapiconnect.KeyServiceRevokeProcedure: true,
		masterapiconnect.FleetServiceForgetHostProcedure: false, masterapiconnect.OperatorServiceSaveSnapshotProcedure: false,
	} {
		for role, want := range map[identity.Role]bool{
			identity.RoleGateway: gateway, identity.RoleOperator: true, identity.RoleHost: false, identity.RoleRelay: false,
		} {
			if refused := permit(procedure, identity.Identity{Role: role, Name: "x"}, true); (refused == nil) != want {
				t.Errorf("%s calls %s: %v, want allowed %v", role, procedure, refused, want)
			}
		}
		if permit(procedure, identity.Identity{}, false) == nil {
			t.Errorf("anybody may call %s", procedure)
		}
	}
}
