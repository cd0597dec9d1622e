package gateway

import (
	"path"

	"github.com/wavry/fleet/gateway/store"
)

// allowed decides whether an account may use a pool. A matching deny wins over everything; then a matching allow or an open
// pattern says yes; otherwise no. Disabled accounts have no login and do not come here.
func allowed(open []string, rules []store.Rule, u store.User, pool string) bool {
	yes := false
	for _, pattern := range open {
		yes = yes || matches(pattern, pool)
	}
	for _, r := range rules {
		if !matches(r.Pool, pool) || !concerns(r, u) {
			continue
		}
		if r.Effect == store.Deny {
			return false
		}
		yes = true
	}
	return yes
}

// concerns reports whether a rule is about this account: by id, by role, or about everybody.
func concerns(r store.Rule, u store.User) bool {
	return (r.UserID == "" || r.UserID == u.ID) && (r.Role == "" || r.Role == u.Role)
}

// matches treats a pattern that is none as a name; patterns are checked when they are stored.
func matches(pattern, pool string) bool {
	ok, err := path.Match(pattern, pool)
	return ok || (err != nil && pattern == pool)
}

// atLeast reports whether role may do what need may do.
func atLeast(role, need store.Role) bool {
	rank := map[store.Role]int{store.RoleViewer: 1, store.RoleOperator: 2, store.RoleAdmin: 3}
	return rank[role] >= rank[need] && rank[need] > 0
}
