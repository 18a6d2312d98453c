package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/keepmq/keepmq/internal/client"
)

const maxMessage = 16 << 20 // bytes read from a file

func pubCommand(e *env) *cobra.Command {
	var l link
	var file string
	var retain bool
	c := &cobra.Command{
		Use: "pub TOPIC [MESSAGE]", Short: "Publish a message and wait until the server has it", Args: args(1, 2),
		Example: "  keepmq pub iot-2/type/sensor/id/hall-1/cmd/blink/fmt/json '{\"times\":3}'\n" +
			"  keepmq pub iot-2/type/sensor/id/hall-1/cmd/image/fmt/bin --file picture.bin",
		RunE: func(c *cobra.Command, a []string) error {
			m := client.Message{Topic: a[0], QoS: l.qos, Retain: retain}
			switch {
			case len(a) == 2 && file != "":
				return usage(c, "give a message or --file, not both")
			case len(a) == 2:
				m.Payload = []byte(a[1])
			case file == "-" && e.tokenStdin:
				return usage(c, "standard input is the message or the token, not both")
			case file != "":
				b, err := e.read(file)
				if err != nil {
					return err
				}
				m.Payload = b
			default:
				return usage(c, "a message or --file is needed")
			}
			conn, err := e.dial(c, &l)
			if err != nil {
				return err
			}
			defer hangUp(conn)
			if err := conn.Publish(c.Context(), m); err != nil {
				return fmt.Errorf("publish to %s: %w", a[0], err)
			}
			return nil
		},
	}
	l.flags(c)
	c.Flags().StringVarP(&file, "file", "f", "", "publish what is in this file; - is standard input")
	c.Flags().BoolVarP(&retain, "retain", "r", false, "let the server keep the message for those who subscribe later")
	return c
}

// read returns the content of a file; "-" is standard input.
func (e *env) read(name string) ([]byte, error) {
	in := e.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxMessage+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > maxMessage {
		return nil, fmt.Errorf("%s is larger than %d MiB", name, maxMessage>>20)
	}
	return b, nil
}
