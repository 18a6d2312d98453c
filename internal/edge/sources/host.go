package sources

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/sensors"
)

// absent turns "there is no such file" into ErrAbsent.
func absent(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errors.ErrUnsupported) {
		return ErrAbsent
	}
	return err
}

// cpuUse tells how busy all processors were since the last reading.
func cpuUse() func(context.Context) (map[string]any, error) {
	var last *cpu.TimesStat
	return func(ctx context.Context) (map[string]any, error) {
		times, err := cpu.TimesWithContext(ctx, false)
		if err != nil {
			return nil, absent(err)
		}
		if len(times) == 0 {
			return nil, ErrAbsent
		}
		now, before := &times[0], last
		if last = now; before == nil {
			return nil, ErrLater
		}
		total, idle := busyTotal(now)-busyTotal(before), now.Idle+now.Iowait-before.Idle-before.Iowait
		if total <= 0 {
			return nil, ErrLater
		}
		percent := func(part float64) float64 { return round(min(max(100*part/total, 0), 100)) }
		return map[string]any{
			"percent": percent(total - idle),
			"user":    percent(now.User + now.Nice - before.User - before.Nice),
			"system":  percent(now.System - before.System),
			"iowait":  percent(now.Iowait - before.Iowait),
		}, nil
	}
}

// busyTotal leaves out guest time, which is in user time already.
func busyTotal(t *cpu.TimesStat) float64 {
	return t.User + t.Nice + t.System + t.Idle + t.Iowait + t.Irq + t.Softirq + t.Steal
}

func loadAverage(ctx context.Context) (map[string]any, error) {
	l, err := load.AvgWithContext(ctx)
	if err != nil {
		return nil, absent(err)
	}
	return map[string]any{"load1": l.Load1, "load5": l.Load5, "load15": l.Load15}, nil
}

func memory(ctx context.Context) (map[string]any, error) {
	m, err := mem.VirtualMemoryWithContext(ctx)
	if err != nil {
		return nil, absent(err)
	}
	return map[string]any{
		"percent": round(m.UsedPercent), "used_bytes": m.Used, "available_bytes": m.Available, "total_bytes": m.Total,
		"swap_used_bytes": m.SwapTotal - min(m.SwapFree, m.SwapTotal),
	}, nil
}

// diskUse reads the file system that holds the root: others may be far away,
// and asking a far one can take for ever.
func diskUse(ctx context.Context) (map[string]any, error) {
	u, err := disk.UsageWithContext(ctx, "/")
	if err != nil {
		return nil, absent(err)
	}
	return map[string]any{
		"path": u.Path, "percent": round(u.UsedPercent), "used_bytes": u.Used, "free_bytes": u.Free, "total_bytes": u.Total,
	}, nil
}

func diskRates() func(context.Context) (map[string]any, error) {
	r := &rate{now: time.Now}
	return func(ctx context.Context) (map[string]any, error) {
		disks, err := disk.IOCountersWithContext(ctx)
		if err != nil {
			return nil, absent(err)
		}
		counters := map[string]uint64{}
		for name, d := range disks {
			if !wholeDisk(name) {
				continue
			}
			counters["read:"+name], counters["write:"+name] = d.ReadBytes, d.WriteBytes
		}
		return summed(r, counters)
	}
}

var partOfDisk = regexp.MustCompile(`^(?:(?:sd|hd|vd|xvd)[a-z]+\d+|(?:nvme\d+n\d+|mmcblk\d+)(?:p|boot)\d+|(?:loop|ram|zram|dm-|md|sr|fd)\d+)$`)

// wholeDisk leaves out partitions, and devices that live on another one: their
// bytes would be counted twice.
func wholeDisk(name string) bool { return !partOfDisk.MatchString(name) }

func networkRates() func(context.Context) (map[string]any, error) {
	r := &rate{now: time.Now}
	return func(ctx context.Context) (map[string]any, error) {
		links, err := net.IOCountersWithContext(ctx, true)
		if err != nil {
			return nil, absent(err)
		}
		counters := map[string]uint64{}
		for _, l := range links {
			if l.Name == "lo" || strings.HasPrefix(l.Name, "lo0") {
				continue
			}
			counters["received:"+l.Name], counters["sent:"+l.Name] = l.BytesRecv, l.BytesSent
			counters["errors:"+l.Name], counters["dropped:"+l.Name] = l.Errin+l.Errout, l.Dropin+l.Dropout
		}
		return summed(r, counters)
	}
}

// summed adds up the rates of all devices: "read:sda" counts for "read". Bytes
// have the unit in the name.
func summed(r *rate, counters map[string]uint64) (map[string]any, error) {
	if len(counters) == 0 {
		return nil, ErrAbsent
	}
	rates, err := r.per(counters)
	if err != nil {
		return nil, err
	}
	sums := map[string]float64{}
	for name, v := range rates {
		kind, _, _ := strings.Cut(name, ":")
		switch kind {
		case "read", "write", "received", "sent":
			kind += "_bytes_per_second"
		default:
			kind += "_per_second"
		}
		sums[kind] += v
	}
	if len(sums) == 0 {
		return nil, ErrLater
	}
	out := map[string]any{}
	for kind, v := range sums {
		out[kind] = round(v)
	}
	return out, nil
}

// temperatures returns each sensor in degrees Celsius, and the hottest. A
// sensor that cannot be read is left out as long as there is another.
func temperatures(ctx context.Context) (map[string]any, error) {
	all, err := sensors.TemperaturesWithContext(ctx)
	out, hottest := map[string]any{}, math.Inf(-1)
	for _, t := range all {
		if t.SensorKey == "" || t.Temperature < -100 || t.Temperature > 1000 || t.Temperature == 0 {
			continue // what drivers report for a sensor that is not connected
		}
		out[fieldName(t.SensorKey)] = round(t.Temperature)
		hottest = max(hottest, t.Temperature)
	}
	if len(out) > 0 {
		out["max_celsius"] = round(hottest)
		return out, nil
	}
	var unreadable *sensors.Warnings
	if err == nil || errors.As(err, &unreadable) {
		return nil, ErrAbsent
	}
	return nil, absent(err)
}

// fieldName makes a plain word of a sensor's name.
func fieldName(s string) string {
	return "celsius_" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '_'
	}, s)
}
