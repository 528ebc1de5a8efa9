package profile_test

import "strings"

const multipartHeader = `Content-Type: multipart/form-data; boundary=------------------------d74496d66958873e`

// multipart is a body of names and values in turn, as curl -F writes it.
func multipart(pairs ...string) string {
	const boundary = "--------------------------d74496d66958873e"
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		b.WriteString(boundary + "\r\nContent-Disposition: form-data; name=\"" + pairs[i] + "\"\r\n\r\n" + pairs[i+1] + "\r\n")
	}
	return b.String() + boundary + "--\r\n"
}
