package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keepmq/keepmq/internal/client"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
)

const connectIn = 20 * time.Second

// A link is the flags of a command that speaks MQTT.
type link struct {
	broker string
	qos    uint8
}

func (l *link) flags(c *cobra.Command) {
	c.Flags().StringVar(&l.broker, "broker", "", "where MQTT is, as host:port (else $KEEPMQ_BROKER, else where you are signed in)")
	c.Flags().Uint8VarP(&l.qos, "qos", "q", 1, "quality of service: 0, 1 or 2")
}

// dial connects as the person who is signed in, or as the application of --key.
func (e *env) dial(c *cobra.Command, l *link) (*client.Client, error) {
	if l.qos > mqtt.MaxQoS {
		return nil, usage(c, "--qos must be 0, 1 or 2")
	}
	r, err := e.remote()
	if err != nil {
		return nil, err
	}
	org := keyOrg(r.key)
	if r.key == "" {
		if err := r.signedIn(); err != nil {
			return nil, err
		}
		if org, err = e.orgID(c.Context(), r); err != nil {
			return nil, err
		}
	} else if org == "" {
		return nil, usage(c, "--key must be an API key, which begins with a- and its organisation")
	}
	ctx, cancel := context.WithTimeout(c.Context(), connectIn)
	defer cancel()
	m, err := client.Dial(ctx, client.Config{
		Address: first(l.broker, e.getenv("KEEPMQ_BROKER"), r.broker), TLS: r.tls.Clone(),
		ClientID: "a:" + org + ":cli-" + strings.ToLower(rand.Text()[:16]),
		Username: first(r.key, "use-access-token"), Password: r.token, CleanStart: true,
	})
	return m, refused(r, err)
}

// refused adds to a refusal what to do about it.
func refused(r *remote, err error) error {
	no := new(client.Refusal)
	if !errors.As(err, &no) {
		return err
	}
	switch errs.CodeOf(err) {
	case errs.Unauthenticated, errs.Denied:
		if r.key != "" {
			return hint("check --key and its token: keepmq app show KEY tells whether it is disabled", "%w", err)
		}
		return hint("if your sign-in has ended: "+signInAgain, "%w", err)
	}
	return err
}

// hangUp says goodbye; what was to be done has been done or not by then.
func hangUp(c *client.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = c.Close(ctx)
}
