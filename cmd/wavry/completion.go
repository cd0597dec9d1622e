package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/cli"
	"github.com/posener/complete"
)

func completionCommands(env *environment) map[string]cli.CommandFactory {
	return map[string]cli.CommandFactory{
		"completion": func() (cli.Command, error) { return &completion{env}, nil },
	}
}

// completion prints what makes a shell complete wavry's commands, and edits nothing.
type completion struct{ env *environment }

// shells are the scripts; %[1]s is the program. The program completes itself when the shell sets COMP_LINE.
var shells = map[string]string{
	"bash": "complete -C %[1]s wavry\n",
	"zsh":  "autoload -U +X bashcompinit && bashcompinit\ncomplete -o nospace -C %[1]s wavry\n",
	"fish": `function __complete_wavry
    set -lx COMP_LINE (commandline -cp)
    test -z (commandline -ct); and set COMP_LINE "$COMP_LINE "
    %[1]s
end
complete -f -c wavry -a "(__complete_wavry)"
`,
}

func (c *completion) Synopsis() string { return "Print shell completion for bash, zsh or fish" }

func (c *completion) Help() string {
	return strings.TrimSpace(`
Usage: wavry completion bash|zsh|fish

  Prints what lets the shell complete wavry's commands, options and, with a master at hand, names. Nothing is edited:

    source <(wavry completion bash)          in ~/.bashrc
    source <(wavry completion zsh)           in ~/.zshrc
    wavry completion fish | source           in ~/.config/fish/config.fish
`)
}

func (c *completion) Run(args []string) int { return c.env.report("completion", c.run(args)) }

func (c *completion) run(args []string) error {
	if len(args) != 1 || shells[args[0]] == "" {
		return fmt.Errorf("usage: wavry completion bash|zsh|fish")
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	_, err = fmt.Fprintf(c.env.stdout, shells[args[0]], program)
	return err
}

// AutocompleteArgs completes the shells.
func (c *completion) AutocompleteArgs() complete.Predictor {
	return complete.PredictSet("bash", "zsh", "fish")
}

// AutocompleteFlags: there are none.
func (c *completion) AutocompleteFlags() complete.Flags { return nil }
