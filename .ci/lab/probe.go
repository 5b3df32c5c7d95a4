package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	probeEvery = 20 * time.Millisecond
	probeWait  = 5 * time.Second // for the last answers
	rampUp     = time.Second     // of a stream, not counted
	streamBuf  = 256 << 10
)

// serve echoes datagrams and takes streams until ctx ends.
func serve(ctx context.Context, addr string) error {
	packets, err := net.ListenPacket("udp", addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	streams, err := net.Listen("tcp", addr)
	if err != nil {
		packets.Close()
		return fmt.Errorf("listen: %w", err)
	}
	defer context.AfterFunc(ctx, func() { packets.Close(); streams.Close() })()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { echo(packets) })
	for {
		c, err := streams.Accept()
		if ctx.Err() != nil {
			return nil
		} else if err != nil {
			packets.Close()
			return fmt.Errorf("accept: %w", err)
		}
		wg.Go(func() {
			defer context.AfterFunc(ctx, func() { c.Close() })()
			defer c.Close()
			if rate, err := receive(c); err == nil {
				fmt.Fprintf(c, "%.2f Mbit/s\n", rate/1e6)
			}
		})
	}
}

func echo(c net.PacketConn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(buf[:n], from) // a lost one is what is measured
	}
}

// receive gives the rate in bit/s at which bytes came after the first second, until the other end has sent all.
func receive(r io.Reader) (float64, error) {
	buf := make([]byte, streamBuf)
	var began, counted time.Time
	var bytes int64
	for {
		n, err := r.Read(buf)
		now := time.Now()
		if began.IsZero() {
			began = now
		}
		switch {
		case !counted.IsZero():
			bytes += int64(n)
		case now.Sub(began) >= rampUp:
			counted = now
		}
		if errors.Is(err, io.EOF) && !counted.IsZero() {
			return float64(bytes*8) / now.Sub(counted).Seconds(), nil
		} else if err != nil {
			return 0, err
		}
	}
}

func stream(ctx context.Context, addr string, length time.Duration) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	buf := make([]byte, streamBuf)
	for end := time.Now().Add(rampUp + length); time.Now().Before(end); {
		if _, err := c.Write(buf); err != nil {
			return err
		}
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	var told strings.Builder
	if _, err := io.Copy(&told, c); err != nil {
		return err
	}
	if told.Len() == 0 {
		return fmt.Errorf("stream to %s: it gave no figure, the stream was too short", addr)
	}
	fmt.Print(told.String())
	return nil
}

// rtt sends count datagrams and prints how long the answers took.
func rtt(ctx context.Context, addr string, count int) error {
	c, err := new(net.Dialer).DialContext(ctx, "udp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if count < 1 || count > 60_000 {
		return fmt.Errorf("--count %d: want 1 to 60000", count)
	}
	sent := make([]time.Time, count)
	took := make(chan []time.Duration)
	began := time.Now()
	if err := c.SetReadDeadline(began.Add(time.Duration(count)*probeEvery + probeWait)); err != nil {
		return err
	}
	var mu sync.Mutex // guards sent
	go func() {
		var all []time.Duration
		buf := make([]byte, 16)
		for len(all) < count {
			n, err := c.Read(buf)
			if err != nil || n != 2 {
				break
			}
			mu.Lock()
			all = append(all, time.Since(sent[int(buf[0])<<8|int(buf[1])]))
			mu.Unlock()
		}
		took <- all
	}()
	for i := range sent {
		mu.Lock()
		sent[i] = time.Now()
		mu.Unlock()
		_, err = c.Write([]byte{byte(i >> 8), byte(i)})
		if err != nil || ctx.Err() != nil {
			break
		}
		time.Sleep(probeEvery)
	}
	all := <-took
	if len(all) == 0 {
		return fmt.Errorf("no answer from %s: %w", addr, errors.Join(err, ctx.Err()))
	}
	slices.Sort(all)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	fmt.Printf("%.2f ms, %.2f-%.2f ms, %.2f %% lost\n", ms(all[len(all)/2]), ms(all[0]), ms(all[len(all)-1]), 100*float64(count-len(all))/float64(count))
	return nil
}
