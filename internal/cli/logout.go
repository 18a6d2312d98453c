package cli

import (
	"errors"
	"io/fs"
	"net/http"

	"github.com/spf13/cobra"
)

func logoutCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "logout", Short: "End the sign-in of this computer, here and at the server", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := e.load()
			if errors.Is(err, fs.ErrNotExist) {
				return e.done("You are not signed in.")
			}
			if err != nil {
				return err
			}
			e.server, e.key = s.Server, ""
			r, err := e.remote()
			if err != nil {
				return err
			}
			err = r.call(c.Context(), http.MethodPost, "/sign-out", nil, nil)
			if gone := new(remoteError); errors.As(err, &gone) && gone.status == http.StatusUnauthorized {
				err = nil // the server has ended it already
			}
			if forgot := e.forget(); forgot != nil {
				return forgot
			}
			if err != nil {
				return hint("end it there when it answers again: keepmq session list, keepmq session end ID",
					"the token is gone from this computer, but %s still takes it: %w", s.Server, err)
			}
			return e.done("Signed out of %s.", s.Server)
		},
	}
}
