package io.github.falrpc;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.github.falrpc.v1.*;
import io.github.falrpc.v1.FalServiceGrpc.FalServiceBlockingStub;
import io.grpc.*;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.io.InputStream;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class ChannelTest {
  /** What fails each call. */
  private static final class Failing implements BindableService {
    private final Status status;

    Failing(Status status) {
      this.status = status;
    }

    @Override
    public ServerServiceDefinition bindService() {
      var service = ServerServiceDefinition.builder(FalServiceGrpc.getServiceDescriptor());
      FalServiceGrpc.getServiceDescriptor().getMethods().forEach(method -> add(service, method));
      return service.build();
    }

    private <A, B> void add(ServerServiceDefinition.Builder service, MethodDescriptor<A, B> method) {
      service.addMethod(method, (call, headers) -> {
        call.close(status, new Metadata());
        return new ServerCall.Listener<>() {};
      });
    }
  }

  private static void call(String method, FalServiceBlockingStub stub) throws IOException {
    switch (method) {
      case "Run" -> stub.run(RunRequest.getDefaultInstance());
      case "Submit" -> stub.submit(SubmitRequest.getDefaultInstance());
      case "Status" -> stub.status(StatusRequest.getDefaultInstance());
      case "StreamStatus" -> stub.streamStatus(StreamStatusRequest.getDefaultInstance()).next();
      case "Result" -> stub.result(ResultRequest.getDefaultInstance());
      case "Cancel" -> stub.cancel(CancelRequest.getDefaultInstance());
      case "Subscribe" -> stub.subscribe(SubscribeRequest.getDefaultInstance()).next();
      case "Stream" -> stub.stream(StreamRequest.getDefaultInstance()).next();
      case "StreamWorkflow" -> stub.streamWorkflow(StreamWorkflowRequest.getDefaultInstance()).next();
      default -> Falrpc.upload(stub, UploadHeader.getDefaultInstance(), InputStream.nullInputStream());
    }
  }

  /** What only reads, or may be done twice, is called three times when the server is UNAVAILABLE; no other is. */
  @ParameterizedTest
  @CsvSource({
    "Status, 3", "StreamStatus, 3", "Result, 3", "Cancel, 3", "Run, 1", "Submit, 1", "Subscribe, 1", "Stream, 1",
    "StreamWorkflow, 1", "Upload, 1"
  })
  void repeats(String method, int times) throws Exception {
    try (Served served = new Served(new Failing(Status.UNAVAILABLE))) {
      var failure = assertThrows(StatusRuntimeException.class, () -> call(method, served.stub));
      assertEquals(Status.Code.UNAVAILABLE, failure.getStatus().getCode());
      assertEquals(Collections.nCopies(times, method), served.calls);
    }
  }

  /** Another failure is final, also for what only reads. */
  @ParameterizedTest
  @ValueSource(strings = {"UNKNOWN", "RESOURCE_EXHAUSTED", "INTERNAL", "ABORTED", "CANCELLED"})
  void repeatsNothingElse(String code) throws Exception {
    try (Served served = new Served(new Failing(Status.Code.valueOf(code).toStatus()))) {
      assertThrows(StatusRuntimeException.class, () -> call("Status", served.stub));
      assertEquals(1, served.calls.size());
    }
  }

  /** Who answers for the target's name can't have paid calls repeated; xDS, which lives by that, rules its calls. */
  @ParameterizedTest
  @CsvSource({"published, Run, 1", "published, Status, 3", "xds, Run, 5"})
  void heedsNoConfigOfTheName(String scheme, String method, int times) throws Exception {
    Map<String, ?> repeating = Map.of("methodConfig", List.of(Map.of(
        "name", List.of(Map.of()),
        "retryPolicy", Map.of(
            "maxAttempts", 5.0, "initialBackoff", "0.01s", "maxBackoff", "0.01s", "backoffMultiplier", 1.0,
            "retryableStatusCodes", List.of("UNAVAILABLE")))));
    try (Served served = new Served(new Failing(Status.UNAVAILABLE))) {
      Addresses names = new Addresses(scheme, repeating, served.port);
      NameResolverRegistry.getDefaultRegistry().register(names);
      ManagedChannel channel = Falrpc.channel(scheme + ":///falrpc", InsecureChannelCredentials.create()).build();
      try {
        var stub = FalServiceGrpc.newBlockingStub(channel).withDeadlineAfter(60, TimeUnit.SECONDS);
        assertThrows(StatusRuntimeException.class, () -> call(method, stub));
        assertEquals(Collections.nCopies(times, method), served.calls);
      } finally {
        channel.shutdownNow().awaitTermination(60, TimeUnit.SECONDS);
        NameResolverRegistry.getDefaultRegistry().deregister(names);
      }
    }
  }

  /** A token comes with the call, over plaintext too. */
  @Test
  void sendsToken() throws Exception {
    try (Served served = new Served(new Failing(Status.INTERNAL))) {
      FalServiceBlockingStub stub = served.stub.withCallCredentials(Falrpc.bearer("a-token"));
      assertThrows(StatusRuntimeException.class, () -> call("Run", stub));
      var key = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
      assertEquals("Bearer a-token", served.headers.get(0).get(key));
    }
  }

  /** What can't be a token is refused at once, and not shown. */
  @ParameterizedTest
  @ValueSource(strings = {"", "secret\n", "se cret", "sécret"})
  void refusesToken(String token) {
    var refused = assertThrows(IllegalArgumentException.class, () -> Falrpc.bearer(token));
    assertFalse(refused.getMessage().contains("cret"));
  }

  private static FalServiceGrpc.FalServiceImplBase running(Consumer<StreamObserver<RunResponse>> answer) {
    return new FalServiceGrpc.FalServiceImplBase() {
      @Override
      public void run(RunRequest request, StreamObserver<RunResponse> response) {
        answer.accept(response);
      }
    };
  }

  private static RunResponse response(int characters) {
    return RunResponse.newBuilder().setOutput(Output.newBuilder().setJson("x".repeat(characters))).build();
  }

  /** Messages of almost 64 MiB pass both ways. */
  @Test
  void takesLargeMessages() throws Exception {
    int characters = (64 << 20) - 100;
    try (Served served = new Served(running(response -> {
      response.onNext(response(characters));
      response.onCompleted();
    }))) {
      Input input = Input.newBuilder().setJson("y".repeat(characters)).build();
      RunResponse answer = served.stub.run(RunRequest.newBuilder().setInput(input).build());
      assertEquals(characters, answer.getOutput().getJson().length());
    }
  }

  /** A message of more than 64 MiB is refused. */
  @Test
  void refusesLargerMessages() throws Exception {
    try (Served served = new Served(running(response -> {
      response.onNext(response(64 << 20));
      response.onCompleted();
    }))) {
      var failure = assertThrows(StatusRuntimeException.class, () -> call("Run", served.stub));
      assertEquals(Status.Code.RESOURCE_EXHAUSTED, failure.getStatus().getCode());
    }
  }

  /** Calls are spread over all addresses of a target. */
  @Test
  void spreadsCalls() throws Exception {
    Failing failing = new Failing(Status.INTERNAL);
    try (Served one = new Served(failing); Served other = new Served(failing)) {
      NameResolverRegistry.getDefaultRegistry().register(new Addresses("two", Map.of(), one.port, other.port));
      ManagedChannel channel = Falrpc.channel("two:///falrpc", InsecureChannelCredentials.create()).build();
      try {
        var stub = FalServiceGrpc.newBlockingStub(channel);
        long patienceEnds = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        while ((one.calls.isEmpty() || other.calls.isEmpty()) && System.nanoTime() < patienceEnds) {
          var limited = stub.withDeadlineAfter(60, TimeUnit.SECONDS);
          assertThrows(StatusRuntimeException.class, () -> call("Run", limited));
        }
        assertFalse(one.calls.isEmpty() || other.calls.isEmpty());
      } finally {
        channel.shutdownNow().awaitTermination(60, TimeUnit.SECONDS);
      }
    }
  }

  private static final int TLS = 0x16;
  private static final int PLAINTEXT = 'P'; // of PRI * HTTP/2.0

  private static int firstByte(ServerSocket listener, ManagedChannelBuilder<?> builder) throws IOException {
    ManagedChannel channel = builder.build();
    try {
      channel.getState(true); // connects
      listener.setSoTimeout(60_000);
      try (Socket connection = listener.accept()) {
        return connection.getInputStream().read();
      }
    } finally {
      channel.shutdownNow();
    }
  }

  /** This machine is spoken to in plaintext, all others with TLS. (0.0.0.0 leads here and is no loopback address.) */
  @ParameterizedTest
  @CsvSource({
    "localhost:PORT, false", "LocalHost:PORT, false", "127.0.0.1:PORT, false", "127.1.2.3:PORT, false",
    "dns:///localhost:PORT, false", "0.0.0.0:PORT, true", "dns:///0.0.0.0:PORT, true",
    "0.0.0.0:PORT/localhost, true"
  })
  void speaksTls(String target, boolean isTls) throws Exception {
    try (ServerSocket listener = new ServerSocket(0)) {
      String address = target.replace("PORT", String.valueOf(listener.getLocalPort()));
      assertEquals(isTls ? TLS : PLAINTEXT, firstByte(listener, Falrpc.channel(address)));
    }
  }

  /** Targets that only begin or end as this machine's do are other machines', and ::1 is this one. */
  @ParameterizedTest
  @CsvSource({
    "localhost.example.com:1, true", "127.0.0.1.example.com:1, true", "my-localhost:1, true", "[::1]:1, false",
    "example.com/localhost, true", "dns:///example.com:1/localhost, true", "0.0.0.0:1/localhost, true",
    "dns://example.com/localhost:1, true", "dns:///[::1]:1, false", "DNS:///localhost, false", "fal.example.com, true",
    "127.999.999.999:1, true"
  })
  void knowsLoopback(String target, boolean isTls) {
    assertEquals(!isTls, Falrpc.isLoopback(target));
  }

  /** A port that is none is refused at once: grpc itself would throw in a thread of its own, and wait. */
  @ParameterizedTest
  @ValueSource(strings = {"localhost:65536", "localhost:99999", "dns:///gateway:123456789012345678901234567890"})
  void refusesPortsThatAreNone(String target) {
    assertThrows(IllegalArgumentException.class, () -> Falrpc.channel(target));
    Falrpc.channel("localhost:65535");
    Falrpc.channel("1234567");
  }

  /** Credentials that are given are used, for every target. */
  @Test
  void usesGivenCredentials() throws Exception {
    try (ServerSocket listener = new ServerSocket(0)) {
      String port = ":" + listener.getLocalPort();
      assertEquals(TLS, firstByte(listener, Falrpc.channel("localhost" + port, TlsChannelCredentials.create())));
      assertEquals(
          PLAINTEXT, firstByte(listener, Falrpc.channel("0.0.0.0" + port, InsecureChannelCredentials.create())));
    }
  }
}
