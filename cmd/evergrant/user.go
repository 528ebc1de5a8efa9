package main

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/secret"
	"github.com/spf13/cobra"
)

func (in *invocation) userCommand() *cobra.Command {
	return in.administration(group("user", "Adds resource owners who can sign in, and changes them",
		in.userList(), in.userShow(), in.userCreate(), in.userUpdate(), in.userPasswd(), in.userDelete()))
}

func (in *invocation) userList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "Lists the users", Args: exactly(0),
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, _ []string) error {
			return listing[evergrant.User]{
				head: []string{"USERNAME", "DECLARED", "CREATED", "UPDATED"},
				row: func(u evergrant.User) []string {
					return []string{u.Username, yes(u.Declared), localTime(u.CreatedAt), localTime(u.UpdatedAt)}
				},
				empty: "no users yet; add one with `evergrant user create NAME`",
			}.show(in, admin.Users(cmd.Context()))
		}),
	}
}

func (in *invocation) userShow() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Shows one user", Args: exactly(1),
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, args []string) error {
			user, err := admin.User(cmd.Context(), args[0])
			if err != nil {
				return found(err, "user", args[0])
			}
			return in.showUser(user)
		}),
	}
}

func (in *invocation) showUser(u evergrant.User) error {
	if in.json {
		return in.printJSON(u)
	}
	return details(in.stdout, [][2]string{
		{"username", u.Username},
		{"info", string(u.Info)},
		{"imported from", u.ImportedFrom},
		{"declared in the configuration", yes(u.Declared)},
		{"created", localTime(u.CreatedAt)},
		{"updated", localTime(u.UpdatedAt)},
	})
}

func (in *invocation) userCreate() *cobra.Command {
	var info jsonObject
	cmd := &cobra.Command{Use: "create NAME", Short: "Adds a user; asks for the password on a terminal", Args: exactly(1)}
	cmd.Flags().Var(&info, "info", infoUsage)
	return in.withPassword(cmd, func(ctx context.Context, admin *evergrant.Client, name string, password secret.Text) (evergrant.User, error) {
		user, err := admin.CreateUser(ctx, evergrant.User{Username: name, Info: json.RawMessage(info)}, password)
		return user, taken(err, "user", name, "passwd")
	})
}

func (in *invocation) userPasswd() *cobra.Command {
	cmd := &cobra.Command{Use: "passwd NAME", Short: "Replaces a user's password; grants live on", Args: exactly(1)}
	return in.withPassword(cmd, func(ctx context.Context, admin *evergrant.Client, name string, password secret.Text) (evergrant.User, error) {
		user, err := admin.SetPassword(ctx, name, password)
		return user, found(err, "user", name)
	})
}

// userUpdate changes what is known of a user. Without --info it is passwd.
func (in *invocation) userUpdate() *cobra.Command {
	var info jsonObject
	cmd := in.userPasswd()
	cmd.Use, cmd.Short = "update NAME", "Replaces what is known of a user, or the password"
	cmd.Flags().Var(&info, "info", infoUsage)
	passwd := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case !cmd.Flags().Changed("info"):
			return passwd(cmd, args)
		case cmd.Flags().Changed("password-stdin"):
			return usage(cmd, "give --info or --password-stdin, not both")
		}
		admin, err := in.admin()
		if err != nil {
			return err
		}
		user, err := admin.SetInfo(cmd.Context(), args[0], json.RawMessage(info))
		if err != nil {
			return found(err, "user", args[0])
		}
		return in.showUser(user)
	}
	return cmd
}

const infoUsage = "`JSON` object that a profile's token answers show, such as '{\"companies\":[]}'; empty for none"

// jsonObject is a flag's value: a JSON object, or nothing.
type jsonObject json.RawMessage

func (o *jsonObject) String() string { return string(*o) }

// Type is what the flag's help calls the value.
func (o *jsonObject) Type() string { return "JSON" }

// Set takes a text that is an object.
func (o *jsonObject) Set(text string) error {
	if *o = nil; text == "" {
		return nil
	}
	var members map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &members) != nil || members == nil {
		return errors.New("it is not a JSON object")
	}
	*o = jsonObject(text)
	return nil
}

// withPassword makes a command save the user that it names with a password.
func (in *invocation) withPassword(cmd *cobra.Command, save func(context.Context, *evergrant.Client, string, secret.Text) (evergrant.User, error)) *cobra.Command {
	var stdin bool
	cmd.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from stdin")
	cmd.RunE = in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, args []string) error {
		password, err := in.readSecret(cmd, "password", "password-stdin", stdin)
		if err != nil {
			return err
		}
		user, err := save(cmd.Context(), admin, args[0], password)
		if err != nil {
			return err
		}
		return in.showUser(user)
	})
	return cmd
}

func (in *invocation) userDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Deletes a user and revokes the grants that the user gave", Args: exactly(1),
		RunE: in.onServer(func(cmd *cobra.Command, admin *evergrant.Client, args []string) error {
			if err := admin.DeleteUser(cmd.Context(), args[0]); err != nil {
				return found(err, "user", args[0])
			}
			return in.done("deleted", "user "+args[0]+" and revoked the grants that the user gave")
		}),
	}
}
