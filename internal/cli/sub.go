package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/keepmq/keepmq/internal/client"
	"github.com/keepmq/keepmq/internal/mqtt"
)

func subCommand(e *env) *cobra.Command {
	var l link
	var count int
	var wait time.Duration
	c := &cobra.Command{
		Use: "sub FILTER…", Short: "Print messages as they arrive, as topic and payload", Args: args(1, 100),
		Example: "  keepmq sub 'iot-2/type/+/id/+/evt/+/fmt/+'\n  keepmq sub '#' --json -n 10",
		RunE: func(c *cobra.Command, filters []string) error {
			if count < 0 || wait < 0 {
				return usage(c, "-n and --wait must not be negative")
			}
			conn, err := e.dial(c, &l)
			if err != nil {
				return err
			}
			defer hangUp(conn)
			var subs []mqtt.Subscription
			for _, f := range filters {
				subs = append(subs, mqtt.Subscription{Filter: f, QoS: l.qos})
			}
			if _, err := conn.Subscribe(c.Context(), subs...); err != nil {
				return fmt.Errorf("subscribe: %w", err)
			}
			e.note("subscribed; end with Ctrl-C")
			return e.receive(c.Context(), conn, count, wait)
		},
	}
	l.flags(c)
	c.Flags().IntVarP(&count, "count", "n", 0, "end after that many messages")
	c.Flags().DurationVarP(&wait, "wait", "w", 0, "fail if no message arrives for so long")
	return c
}

// receive prints messages until there were count of them. Being interrupted is
// the ordinary end of waiting for ever.
func (e *env) receive(ctx context.Context, conn *client.Client, count int, wait time.Duration) error {
	for n := 0; count == 0 || n < count; n++ {
		m, err := next(ctx, conn, wait)
		switch {
		case ctx.Err() != nil && count == 0:
			return nil
		case err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
			return hint("is something published there, and may you receive it?", "%d messages arrived, then none for %v", n, wait)
		case err != nil:
			return fmt.Errorf("receive: %w", err)
		}
		if err := e.printMessage(m, time.Now()); err != nil {
			return fmt.Errorf("print message: %w", err)
		}
	}
	return nil
}

func next(ctx context.Context, conn *client.Client, wait time.Duration) (client.Message, error) {
	if wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	return conn.Receive(ctx)
}

// A printed is a message as --json prints it.
type printed struct {
	Time    time.Time `json:"time"` // when it arrived here
	Topic   string    `json:"topic"`
	Payload *string   `json:"payload,omitempty"`        // if it is text
	Base64  []byte    `json:"payload_base64,omitempty"` // if it is not
	QoS     byte      `json:"qos"`
	Retain  bool      `json:"retain"`
}

// printMessage prints one message on one line.
func (e *env) printMessage(m client.Message, at time.Time) error {
	if !e.json {
		_, err := fmt.Fprintln(e.out, quoteSome(m.Topic)+" "+quoteSome(string(m.Payload)))
		return err
	}
	p := printed{Time: at.UTC(), Topic: m.Topic, QoS: m.QoS, Retain: m.Retain}
	if text := string(m.Payload); utf8.ValidString(text) {
		p.Payload = &text
	} else {
		p.Base64 = m.Payload
	}
	return json.NewEncoder(e.out).Encode(p)
}

// quoteSome leaves text as it is and escapes what is none, so that a message is
// one line and cannot tell a terminal what to do.
func quoteSome(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		c, n := utf8.DecodeRuneInString(s)
		if c == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, `\x%02x`, s[0])
		} else if unicode.IsPrint(c) {
			b.WriteString(s[:n])
		} else {
			q := strconv.QuoteRuneToASCII(c)
			b.WriteString(q[1 : len(q)-1])
		}
		s = s[n:]
	}
	return b.String()
}
