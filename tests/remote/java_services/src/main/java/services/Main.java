package services;

import dev.restate.sdk.endpoint.Endpoint;
import dev.restate.sdk.http.vertx.RestateHttpServer;

/** Services written with the Restate SDK for Java, served at the port given. */
public class Main {
  public static void main(String[] arguments) {
    var endpoint = Endpoint.bind(new JavaSvc()).bind(new JavaObj()).bind(new JavaWf());
    RestateHttpServer.listen(endpoint, Integer.parseInt(arguments[0]));
  }
}
