package console

import "net/http"

// routes is every route of the console. Those made with person need somebody
// who is signed in.
func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", s.person(s.overview))
	mux.Handle("GET /limits", s.person(s.limits))
	mux.Handle("GET /credentials", s.person(s.credentials))
	mux.Handle("GET /audit", s.person(s.audit))
	mux.Handle("GET /events", s.person(s.events))
	mux.Handle("POST /sign-out", s.person(s.signOut))
	mux.Handle("GET /account", s.person(s.account))
	mux.Handle("POST /account/{what}", s.person(s.changeAccount))
	mux.Handle("POST /account/passkey/make", s.person(s.saidTo(s.makePasskey)))
	mux.Handle("POST /account/passkey/keep", s.person(s.saidTo(s.keepPasskey)))
	mux.Handle("POST /sign-in/passkey/ask", s.page(s.said(s.askPasskey)))
	mux.Handle("POST /sign-in/passkey/take", s.page(s.said(s.takePasskey)))
	mux.Handle("GET /sign-in", s.page(s.signInHelp))
	mux.Handle("POST /sign-in", s.page(s.logIn))
	mux.Handle("GET /sign-in/organisation", s.page(s.signInOrganisation))
	mux.Handle("GET /sign-in/with/{org}/{name}", s.page(s.signInWith))
	mux.Handle("GET "+callbackPath, s.page(s.signInCallback))
	mux.Handle("GET /sign-in/{code}", s.page(s.signInAsk))
	mux.Handle("POST /sign-in/{code}", s.page(s.signIn))
	mux.Handle("GET /assets/{name}", s.page(s.asset))
	mux.Handle("/", s.page(s.notFound))
	return s.protect(mux)
}
