package identity

import (
	"fmt"
	"os/user"
	"strconv"
)

// Peer is the process at the other end of a Unix socket (SO_PEERCRED).
type Peer struct {
	UID uint32

	// Foreign names the first namespace (pid, user, mnt) in which the peer is not at
	// home with us, "" if it is in all of them. Its uid means nothing here then: root
	// in a container is not root.
	Foreign string
}

// peercred names the user by the peer's uid and the groups by the user database. The
// binary is static, so only /etc/passwd and /etc/group are read.
func peercred(e Evidence) (claim, error) {
	if e.Peer == nil {
		return claim{}, fmt.Errorf("the connection has no peer credentials")
	}
	if e.Peer.Foreign != "" {
		return claim{}, fmt.Errorf("the peer runs in another %s namespace than this proxy, so its uid %d says nothing here", e.Peer.Foreign, e.Peer.UID)
	}
	uid := strconv.FormatUint(uint64(e.Peer.UID), 10)
	u, err := user.LookupId(uid)
	if err != nil {
		return claim{}, fmt.Errorf("uid %s: %w", uid, err)
	}
	gids, err := u.GroupIds()
	if err != nil {
		return claim{}, fmt.Errorf("groups of %s: %w", u.Username, err)
	}
	c := claim{user: u.Username, userID: uid}
	for _, gid := range gids {
		g, err := user.LookupGroupId(gid)
		if err != nil {
			continue // a gid without a name matches no configured group
		}
		c.groups = append(c.groups, g.Name)
	}
	return c, nil
}

// socketUser is the user that the listener names.
func socketUser(e Evidence) (claim, error) {
	if e.Socket == nil {
		return claim{}, fmt.Errorf("the listener names no user")
	}
	return claim{user: e.Socket.User, groups: e.Socket.Groups}, nil
}

// certificate is the subject of the client's certificate.
func certificate(e Evidence) (claim, error) {
	if e.TLS == nil {
		return claim{}, fmt.Errorf("the client showed no verified certificate")
	}
	return claim{user: e.TLS.CommonName, groups: e.TLS.OrganizationalUnits}, nil
}
