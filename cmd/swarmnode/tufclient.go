package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"swarmnode/content/durable"
	"swarmnode/gossip/trust"
)

// tufTimeout bounds one request to a TUF repository: a targets file of 5 MB at 100 kB/s.
const tufTimeout = time.Minute

// tufOptions are the arguments of TUF's conformance suite.
type tufOptions struct {
	metadataDir, metadataURL, targetName, targetURL, targetDir string
}

// tufClientCommand is not shown in the help: it is how TUF's conformance suite meets the verifier of this program.
func (a *app) tufClientCommand() *cobra.Command {
	var o tufOptions
	cmd := &cobra.Command{
		Use:    "tuf-client",
		Hidden: true,
		Short:  "Follow any TUF repository with the verifier that collections are verified with",
		Args:   noArgs,
		RunE:   func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f := cmd.PersistentFlags()
	f.StringVar(&o.metadataDir, "metadata-dir", "", "directory of the verified metadata")
	f.StringVar(&o.metadataURL, "metadata-url", "", "where the repository's metadata are")
	f.StringVar(&o.targetName, "target-name", "", "path of the target")
	f.StringVar(&o.targetURL, "target-base-url", "", "where the repository's targets are")
	f.StringVar(&o.targetDir, "target-dir", "", "directory of the downloaded targets")
	cmd.AddCommand(&cobra.Command{
		Use: "init TRUSTED_ROOT", Short: "Begin with a root that you trust", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			raw, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			return trust.InitClient(o.metadataDir, raw)
		},
	}, &cobra.Command{
		Use: "refresh", Short: "Verify the newest metadata", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := a.tufRefresh(cmd.Context(), o)
			return err
		},
	}, &cobra.Command{
		Use: "download", Short: "Verify the newest metadata and download a target", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.tufDownload(cmd.Context(), o) },
	})
	return cmd
}

func (a *app) tufRefresh(ctx context.Context, o tufOptions) (*trust.Client, error) {
	now, err := a.tufNow()
	if err != nil {
		return nil, err
	}
	c, err := trust.OpenClient(o.metadataDir, now, func(ctx context.Context, name string, limit int64) ([]byte, error) {
		return tufGet(ctx, o.metadataURL, url.PathEscape(name), limit)
	})
	if err != nil {
		return nil, err
	}
	return c, c.Refresh(ctx)
}

// tufNow is the clock. The suite moves it with faketime, which a program that asks the kernel directly does not notice:
// so the variable that faketime sets is read here, as an offset in seconds or as a time.
func (a *app) tufNow() (time.Time, error) {
	fake, _ := a.env("FAKETIME")
	switch {
	case fake == "":
		return time.Now(), nil
	case strings.HasPrefix(fake, "+") || strings.HasPrefix(fake, "-"):
		offset, err := time.ParseDuration(strings.TrimSuffix(fake, "s") + "s")
		return time.Now().Add(offset), err
	}
	return time.ParseInLocation(time.DateTime, strings.TrimPrefix(fake, "@"), time.Local)
}

func (a *app) tufDownload(ctx context.Context, o tufOptions) error {
	c, err := a.tufRefresh(ctx, o)
	if err != nil {
		return err
	}
	target, err := c.Target(ctx, o.targetName)
	if err != nil {
		return err
	}
	if target.Length < 0 || target.Length > trust.MaxTarget {
		return fmt.Errorf("target %q has %d bytes, at most %d are allowed", target.Path, target.Length, trust.MaxTarget)
	}
	file := filepath.Join(o.targetDir, url.PathEscape(target.Path))
	if here, err := os.ReadFile(file); err == nil && target.Check(here) == nil {
		return nil
	}
	var data []byte
	for _, name := range target.Names() {
		parts := strings.Split(name, "/")
		for i, p := range parts {
			parts[i] = url.PathEscape(p)
		}
		if data, err = tufGet(ctx, o.targetURL, strings.Join(parts, "/"), target.Length); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	if err := target.Check(data); err != nil {
		return err
	}
	return durable.WriteFile(file, data, 0o644)
}

// tufGet reads at most limit bytes; a longer file is an error.
func tufGet(ctx context.Context, base, name string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, tufTimeout)
	defer cancel()
	where := strings.TrimSuffix(base, "/") + "/" + name
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusForbidden: // specification section 5.3.3: not available
		return nil, fmt.Errorf("%s: %s: %w", where, resp.Status, fs.ErrNotExist)
	default:
		return nil, fmt.Errorf("%s: %s", where, resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", where, limit)
	}
	return data, err
}
