package foreigntest

import "strings"

// Schema is the SQL that makes the tables of a kind of server, a statement each.
func Schema(dialect, kind string) []string {
	types := map[string][]string{
		SQLite:   {"{id}", "INTEGER NOT NULL PRIMARY KEY", "{ref}", "INTEGER", "{text}", "TEXT", "{time}", "DATETIME", "{bool}", "BOOLEAN"},
		MySQL:    {"{id}", "INT AUTO_INCREMENT NOT NULL PRIMARY KEY", "{ref}", "INT", "{text}", "LONGTEXT", "{time}", "DATETIME(6)", "{bool}", "TINYINT(1)"},
		Postgres: {"{id}", "SERIAL NOT NULL PRIMARY KEY", "{ref}", "INT", "{text}", "TEXT", "{time}", "TIMESTAMP", "{bool}", "BOOLEAN"},
	}[dialect]
	if kind == "django" && dialect == Postgres {
		types[len(types)-3] = "TIMESTAMP WITH TIME ZONE"
	}
	text := strings.NewReplacer(types...).Replace(schemas()[kind])
	var statements []string
	for statement := range strings.SplitSeq(text, ";") {
		if statement = strings.TrimSpace(statement); statement != "" {
			statements = append(statements, statement)
		}
	}
	return statements
}

// schemas are the tables of each kind, with placeholders for the types that differ
// between databases.
func schemas() map[string]string {
	return map[string]string{
		"bshaffer": `
CREATE TABLE oauth_clients (client_id VARCHAR(80) NOT NULL PRIMARY KEY, client_secret VARCHAR(80), redirect_uri VARCHAR(2000), grant_types VARCHAR(80), scope VARCHAR(4000), user_id VARCHAR(80));
CREATE TABLE oauth_access_tokens (access_token VARCHAR(40) NOT NULL PRIMARY KEY, client_id VARCHAR(80) NOT NULL, user_id VARCHAR(80), expires TIMESTAMP NOT NULL, scope VARCHAR(4000));
CREATE TABLE oauth_authorization_codes (authorization_code VARCHAR(40) NOT NULL PRIMARY KEY, client_id VARCHAR(80) NOT NULL, user_id VARCHAR(80), redirect_uri VARCHAR(2000), expires TIMESTAMP NOT NULL, scope VARCHAR(4000), id_token VARCHAR(1000));
CREATE TABLE oauth_refresh_tokens (refresh_token VARCHAR(40) NOT NULL PRIMARY KEY, client_id VARCHAR(80) NOT NULL, user_id VARCHAR(80), expires TIMESTAMP NOT NULL, scope VARCHAR(4000));
CREATE TABLE oauth_users (username VARCHAR(80) NOT NULL PRIMARY KEY, password VARCHAR(80), first_name VARCHAR(80), last_name VARCHAR(80), email VARCHAR(80), email_verified {bool}, scope VARCHAR(4000));
CREATE TABLE oauth_scopes (scope VARCHAR(80) NOT NULL PRIMARY KEY, is_default {bool});
CREATE TABLE oauth_jwt (client_id VARCHAR(80) NOT NULL, subject VARCHAR(80), public_key VARCHAR(2000) NOT NULL)`,
		"fos": `
CREATE TABLE fos_user (id {id}, username VARCHAR(180) NOT NULL, username_canonical VARCHAR(180) NOT NULL UNIQUE, email VARCHAR(180) NOT NULL, email_canonical VARCHAR(180) NOT NULL UNIQUE, enabled {bool} NOT NULL, salt VARCHAR(255) DEFAULT NULL, password VARCHAR(255) NOT NULL, last_login {time} DEFAULT NULL, roles {text} NOT NULL);
CREATE TABLE oauth2_client (id {id}, random_id VARCHAR(255) NOT NULL, redirect_uris {text} NOT NULL, secret VARCHAR(255) DEFAULT NULL, allowed_grant_types {text} NOT NULL, name VARCHAR(255) DEFAULT NULL);
CREATE TABLE oauth2_access_token (id {id}, client_id {ref} NOT NULL, user_id {ref} DEFAULT NULL, token VARCHAR(255) NOT NULL UNIQUE, expires_at INT DEFAULT NULL, scope VARCHAR(255) DEFAULT NULL, FOREIGN KEY (client_id) REFERENCES oauth2_client (id), FOREIGN KEY (user_id) REFERENCES fos_user (id) ON DELETE CASCADE);
CREATE TABLE oauth2_refresh_token (id {id}, client_id {ref} NOT NULL, user_id {ref} DEFAULT NULL, token VARCHAR(255) NOT NULL UNIQUE, expires_at INT DEFAULT NULL, scope VARCHAR(255) DEFAULT NULL, FOREIGN KEY (client_id) REFERENCES oauth2_client (id), FOREIGN KEY (user_id) REFERENCES fos_user (id) ON DELETE CASCADE);
CREATE TABLE oauth2_auth_code (id {id}, client_id {ref} NOT NULL, user_id {ref} DEFAULT NULL, token VARCHAR(255) NOT NULL UNIQUE, redirect_uri {text} NOT NULL, expires_at INT DEFAULT NULL, scope VARCHAR(255) DEFAULT NULL)`,
		"doorkeeper": `
CREATE TABLE users (id {id}, email VARCHAR(255) DEFAULT '' NOT NULL UNIQUE, encrypted_password VARCHAR(255) DEFAULT '' NOT NULL, username VARCHAR(255), created_at {time} NOT NULL, updated_at {time} NOT NULL);
CREATE TABLE oauth_applications (id {id}, name VARCHAR(255) NOT NULL, uid VARCHAR(255) NOT NULL UNIQUE, secret VARCHAR(255) NOT NULL, redirect_uri {text} NOT NULL, scopes VARCHAR(255) DEFAULT '' NOT NULL, confidential {bool} DEFAULT TRUE NOT NULL, created_at {time} NOT NULL, updated_at {time} NOT NULL);
CREATE TABLE oauth_access_grants (id {id}, resource_owner_id BIGINT NOT NULL, application_id BIGINT NOT NULL, token VARCHAR(255) NOT NULL UNIQUE, expires_in INT NOT NULL, redirect_uri {text} NOT NULL, scopes VARCHAR(255) DEFAULT '' NOT NULL, created_at {time} NOT NULL, revoked_at {time});
CREATE TABLE oauth_access_tokens (id {id}, resource_owner_id BIGINT, application_id BIGINT NOT NULL, token VARCHAR(255) NOT NULL UNIQUE, refresh_token VARCHAR(255) UNIQUE, expires_in INT, scopes VARCHAR(255), created_at {time} NOT NULL, revoked_at {time}, previous_refresh_token VARCHAR(255) DEFAULT '' NOT NULL)`,
		"django": `
CREATE TABLE auth_user (id {id}, password VARCHAR(128) NOT NULL, last_login {time}, is_superuser {bool} NOT NULL, username VARCHAR(150) NOT NULL UNIQUE, first_name VARCHAR(150) NOT NULL, last_name VARCHAR(150) NOT NULL, email VARCHAR(254) NOT NULL, is_staff {bool} NOT NULL, is_active {bool} NOT NULL, date_joined {time} NOT NULL);
CREATE TABLE oauth2_provider_application (id {id}, client_id VARCHAR(100) NOT NULL UNIQUE, redirect_uris {text} NOT NULL, client_type VARCHAR(32) NOT NULL, authorization_grant_type VARCHAR(44) NOT NULL, client_secret VARCHAR(255) NOT NULL, name VARCHAR(255) NOT NULL, user_id BIGINT, skip_authorization {bool} NOT NULL, created {time} NOT NULL, updated {time} NOT NULL, algorithm VARCHAR(5) NOT NULL, hash_client_secret {bool} NOT NULL);
CREATE TABLE oauth2_provider_refreshtoken (id {id}, token VARCHAR(255) NOT NULL, access_token_id BIGINT UNIQUE, application_id BIGINT NOT NULL, user_id BIGINT NOT NULL, created {time} NOT NULL, updated {time} NOT NULL, revoked {time}, token_family CHAR(36), UNIQUE (token, revoked));
CREATE TABLE oauth2_provider_accesstoken (id {id}, token {text} NOT NULL, token_checksum VARCHAR(64) NOT NULL UNIQUE, expires {time} NOT NULL, scope {text} NOT NULL, application_id BIGINT, user_id BIGINT, created {time} NOT NULL, updated {time} NOT NULL, source_refresh_token_id BIGINT UNIQUE)`,
	}
}
