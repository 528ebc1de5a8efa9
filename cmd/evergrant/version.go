package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// buildVersion is the module's version and the commit, as far as the build
// knows them.
func buildVersion() (version, commit string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown", ""
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			commit = setting.Value
		}
	}
	return orText(info.Main.Version, "(devel)"), commit
}

func (in *invocation) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Prints the version", Args: exactly(0),
		RunE: func(*cobra.Command, []string) error {
			version, commit := buildVersion()
			if in.json {
				return in.printJSON(map[string]string{"version": version, "commit": commit, "go": runtime.Version()})
			}
			_, err := fmt.Fprintln(in.stdout, "evergrant", version, commit, runtime.Version())
			return err
		},
	}
}

func (in *invocation) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "completion SHELL", Args: exactly(1), ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		Short: "Prints the completion script for bash, zsh, fish or powershell",
		Long:  "Prints the completion script for a shell. For bash, load it with `source <(evergrant completion bash)`.",
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(in.stdout, true)
			case "zsh":
				return root.GenZshCompletion(in.stdout)
			case "fish":
				return root.GenFishCompletion(in.stdout, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(in.stdout)
			}
			return usage(cmd, fmt.Sprintf("there is no completion for %q", args[0]))
		},
	}
}
