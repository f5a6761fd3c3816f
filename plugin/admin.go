package plugin

import (
	"encoding/json"
	"errors"
	"net/http"

	"valise/fleet"
	"valise/volume"
)

// AdminHandler serves the operator's side, for the local administrator alone:
//
//	GET  /healthz           200 once restored and configured, else 503 and why
//	GET  /metrics           Prometheus
//	GET  /profiles          []Profile
//	POST /profiles/show     Selection → []Profile
//	POST /profiles/reset    Selection → []Profile
//	POST /profiles/purge    Selection → []Profile
//	POST /drain             → a fleet.Drained for each profile on S3, a line each
//	POST /undrain           takes it back
//	POST /reload            reads the configuration again
//
// Errors are {"message": "..."}; 409 is volume.ErrInUse.
func (d *Driver) AdminHandler(reload func() error) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", d.metrics.handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-d.ready:
		default:
			answer(w, http.StatusServiceUnavailable, message{"valise is still starting"})
			return
		}
		if err := d.rules.Load().err; err != nil {
			answer(w, http.StatusServiceUnavailable, message{err.Error()})
			return
		}
		answer(w, http.StatusOK, message{"ok"})
	})
	mux.HandleFunc("GET /profiles", func(w http.ResponseWriter, r *http.Request) {
		list, err := d.Profiles(r.Context())
		reply(w, list, err)
	})
	for path, act := range map[string]func(*http.Request, Selection) ([]Profile, error){
		"POST /profiles/show":  func(r *http.Request, s Selection) ([]Profile, error) { return d.Show(r.Context(), s) },
		"POST /profiles/reset": func(r *http.Request, s Selection) ([]Profile, error) { return d.Reset(r.Context(), s) },
		"POST /profiles/purge": func(r *http.Request, s Selection) ([]Profile, error) { return d.Purge(r.Context(), s) },
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			var s Selection
			dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&s); err != nil {
				answer(w, http.StatusBadRequest, message{err.Error()})
				return
			}
			list, err := act(r, s)
			reply(w, list, err)
		})
	}
	mux.HandleFunc("POST /drain", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		lines, flush := json.NewEncoder(w), http.NewResponseController(w)
		err := d.Drain(r.Context(), func(one fleet.Drained) {
			_ = lines.Encode(one) // the client went: it asked for no more than to be told
			_ = flush.Flush()
		})
		if err != nil {
			_ = lines.Encode(fleet.Drained{Error: err.Error()})
		}
	})
	mux.HandleFunc("POST /undrain", func(w http.ResponseWriter, _ *http.Request) {
		d.Undrain()
		answer(w, http.StatusOK, message{"mounts are accepted again"})
	})
	mux.HandleFunc("POST /reload", func(w http.ResponseWriter, _ *http.Request) {
		if err := reload(); err != nil {
			answer(w, http.StatusUnprocessableEntity, message{err.Error()})
			return
		}
		answer(w, http.StatusOK, message{"reloaded"})
	})
	return mux
}

// message is the body of an answer without data.
type message struct {
	Message string `json:"message"`
}

func reply(w http.ResponseWriter, list []Profile, err error) {
	switch {
	case err == nil:
		answer(w, http.StatusOK, list)
	case errors.Is(err, volume.ErrInUse):
		answer(w, http.StatusConflict, message{err.Error()})
	default:
		answer(w, http.StatusUnprocessableEntity, message{err.Error()})
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client went: nobody to tell
}
