// Has swagger-ui show the document that the page names: one of this server's, whatever the page's address says.
"use strict";

(() => {
  const place = document.getElementById("docs");
  SwaggerUIBundle({
    url: place.dataset.document,
    domNode: place,
    deepLinking: true,
    docExpansion: "list",
    validatorUrl: null, // or it would ask another server
    queryConfigEnabled: false,
    requestInterceptor: (request) => {
      const token = request.headers?.Authorization;
      if (token && !/^bearer\s/i.test(token)) request.headers.Authorization = `Bearer ${token}`;
      return request;
    },
  });
})();
